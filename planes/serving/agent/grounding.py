"""Which sentences of an answer stand without a checked citation."""

import re
from collections.abc import Collection, Iterable
from functools import cached_property

from planes.serving.agent.citations import MARKER
from planes.serving.agent.prompts import DECLINED
from planes.serving.sentences import Span, sentence_spans
from planes.shared.wire import TextSpan

_WORD = re.compile(r"\w+")
_QUOTED = re.compile(r"[\"\u201c\u201e]([^\"\u201c\u201d\u201e\n]+)[\"\u201c\u201d]")
_MIN_QUOTED_WORDS = 4
_NO_CLAIM = re.compile(r"(?:[?:\uff1f]|^\W*" + re.escape(DECLINED) + r")\W*$")


def unsupported_spans(
    content: str, supported: Collection[Span], sources: Iterable[str] = ()
) -> tuple[TextSpan, ...]:
    """Return the sentences of `content` that no checked citation supports, in order.

    Questions, and what only announces a list, claim nothing. A sentence that puts words in
    quotation marks which stand in no source is unsupported, whatever it cites.

    Args:
        content: The whole answer.
        supported: The claims in it whose citations hold; one that is a part of a sentence, with
            the marker in its middle, speaks for the whole sentence.
        sources: The texts that the answer may quote.
    """
    masked = MARKER.sub(lambda marker: " " * len(marker.group()), content)
    read = _Read(sources)
    return tuple(
        TextSpan(start=start, end=end)
        for start, end in sentence_spans(masked)
        if not _NO_CLAIM.search(masked[start:end])
        and not (
            any(first < end and start < last for first, last in supported)
            and _quotes_hold(masked[start:end], read)
        )
    )


class _Read:
    """The words of all sources, made where an answer quotes any."""

    def __init__(self, sources: Iterable[str]) -> None:
        self._sources = sources

    @cached_property
    def words(self) -> str:
        return "\n".join(_words(source) for source in self._sources)


def _quotes_hold(sentence: str, read: _Read) -> bool:
    quoted = (_words(found) for found in _QUOTED.findall(sentence))
    return all(words in read.words for words in quoted if words.count(" ") >= _MIN_QUOTED_WORDS)


def _words(text: str) -> str:
    return f" {' '.join(_WORD.findall(text.casefold()))} "
