"""Which sentences of an answer stand without a checked citation."""

import re
from collections.abc import Collection

from planes.serving.agent.prompts import DECLINED
from planes.serving.sentences import Span, sentence_spans
from planes.shared.wire import TextSpan

_MARKER = re.compile(r"\[\d{1,3}\]")
_NO_CLAIM = re.compile(r"(?:[?:\uff1f]|^\W*" + re.escape(DECLINED) + r")\W*$")


def unsupported_spans(content: str, supported: Collection[Span]) -> tuple[TextSpan, ...]:
    """Return the sentences of `content` that no checked citation supports, in order.

    Questions, and what only announces a list, claim nothing.

    Args:
        content: The whole answer.
        supported: The claims in it whose citations hold; one that is a part of a sentence, with
            the marker in its middle, speaks for the whole sentence.
    """
    masked = _MARKER.sub(lambda marker: " " * len(marker.group()), content)
    return tuple(
        TextSpan(start=start, end=end)
        for start, end in sentence_spans(masked)
        if not any(first < end and start < last for first, last in supported)
        and not _NO_CLAIM.search(masked[start:end])
    )
