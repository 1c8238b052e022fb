"""Tables in plain text: CSV (RFC 4180) and its relatives with other delimiters."""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from typing import Final

from planes.data.pipeline.extracted import ExtractedText, TextBuilder, storable
from planes.data.pipeline.formats.plain import decode
from planes.data.pipeline.formats.records import Row, add_tables

MEDIA_TYPE = "text/csv"
_DELIMITERS = ",;\t|"
_LOOKED_AT_CHARS = 64 << 10


def extract(content: bytes) -> ExtractedText:
    """Return a line a record, `column: value; column: value`.

    Raises:
        DocumentRejected: `corrupt`: no encoding fits; `too-complex`: too many columns.
    """
    text = storable(decode(content))
    delimiter = _delimiter(text[:_LOOKED_AT_CHARS])
    try:
        return _extracted(text, delimiter, is_quoted=True)
    except csv.Error:  # a quotation mark that nothing closes
        return _extracted(text, delimiter, is_quoted=False)


def _extracted(text: str, delimiter: str, *, is_quoted: bool) -> ExtractedText:
    builder = TextBuilder()
    rows = filter(any, _rows(text, delimiter, is_quoted=is_quoted))
    add_tables(builder, rows, caption_level=1)
    return builder.build()


def _rows(text: str, delimiter: str, *, is_quoted: bool = True) -> Iterator[Row]:
    quoting: Final = csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE
    lines = io.StringIO(text, newline="")
    for row in csv.reader(lines, delimiter=delimiter, quoting=quoting, skipinitialspace=True):
        yield [cell.strip() for cell in row]


def _delimiter(sample: str) -> str:
    """Return the delimiter that most rows agree on, the wider table first."""
    return max(_DELIMITERS, key=lambda delimiter: _agreement(sample, delimiter))


def _agreement(sample: str, delimiter: str) -> tuple[float, int]:
    try:
        widths = Counter(len(row) for row in _rows(sample, delimiter) if any(row))
    except csv.Error:
        widths = Counter(line.count(delimiter) + 1 for line in sample.split("\n") if line)
    widest, rows = max(widths.items(), key=lambda item: item[1], default=(1, 0))
    return (rows / widths.total(), widest) if widest > 1 else (0.0, 0)
