"""English texts of one length, made of this repository's own documentation."""

import random
import re
from pathlib import Path

_DOCS = Path(__file__).parents[2] / "docs"
_MARKUP = re.compile(r"[|`#*]|-{3,}|^ {4}.*$", re.MULTILINE)
_SENTENCE_CHARS = range(30, 400)


def texts(count: int, *, size_bytes: int = 5_500, seed: int = 1) -> list[bytes]:
    """Return texts of paragraphs of random sentences, each different, the same for one seed."""
    prose = "\n".join(path.read_text("utf-8") for path in sorted(_DOCS.rglob("*.md")))
    found = re.split(r"(?<=[.!?])\s+", _MARKUP.sub("", prose).replace("\n", " "))
    sentences = [one.strip() for one in found if len(one.strip()) in _SENTENCE_CHARS]
    source = random.Random(seed)  # noqa: S311 - nothing secret
    return [_text(sentences, f"{seed}.{number}", size_bytes, source) for number in range(count)]


def _text(sentences: list[str], number: str, size_bytes: int, source: random.Random) -> bytes:
    paragraphs = [f"Report {number}."]
    while sum(map(len, paragraphs)) < size_bytes:
        paragraphs.append(" ".join(source.choices(sentences, k=source.randint(2, 6))))
    return "\n\n".join(paragraphs).encode()[:size_bytes].decode(errors="ignore").encode()
