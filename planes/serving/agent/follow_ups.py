"""Questions that lean on the conversation before them."""

import re
from collections.abc import Sequence

from planes.shared.analysis import detect_language, terms
from planes.shared.wire import ChatTurn

_FEW_TERMS = 2
_REFERS_BACK = re.compile(
    r"\b(?:it|its|they|them|their|theirs|he|him|his|she|her|hers|this|that|these|those|there|then|"
    r"one|ones|former|latter|same|else)\b|^(?:and|but|so|or|what about|how about)\b",
    re.IGNORECASE,
)


def standalone_question(message: str, history: Sequence[ChatTurn]) -> str:
    """Return `message`, joined with the previous question's content words where it refers to it."""
    own = set(terms(message, detect_language(message)))
    leans = _REFERS_BACK.search(message) or len(own) <= _FEW_TERMS
    return joined_question(message, history) if leans else message


def joined_question(message: str, history: Sequence[ChatTurn]) -> str:
    """Return `message` with the content words of the question before it, if there was one."""
    earlier = [turn.content for turn in history if turn.role == "user"]
    if not earlier:
        return message
    language = detect_language(f"{earlier[-1]}\n{message}")
    own = set(terms(message, language))
    words = re.findall(r"\w[\w'\u2019-]*", earlier[-1])
    carried = [word for word in words if (term := terms(word, language)) and not own & set(term)]
    return f"{message} ({' '.join(dict.fromkeys(carried))})" if carried else message


def other_reading(message: str, tried: str, history: Sequence[ChatTurn]) -> str:
    """Return the question read the other way: alone where it was joined, else joined."""
    return message if tried != message else joined_question(message, history)
