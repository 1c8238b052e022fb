"""Excel workbooks (Office Open XML, ECMA-376): the values that a reader of the sheets sees."""

import datetime
import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import openpyxl  # type: ignore[import-untyped]
from openpyxl.utils import range_boundaries  # type: ignore[import-untyped]

from planes.data.pipeline.extracted import ExtractedText, TextBuilder
from planes.data.pipeline.formats import archive
from planes.data.pipeline.formats.records import Row, add_tables
from planes.shared.errors import DocumentRejected

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_WHAT = "an Excel workbook"
_MAX_SHEETS = 1_000
_MAX_ROWS = 1_048_576
_MAX_MERGED = 100_000
_MERGED = re.compile(rb"<(?:\w+:)?mergeCell\s[^>]*?ref=\"([A-Z]{1,3}\d{1,7}:[A-Z]{1,3}\d{1,7})\"")
_Repeats = dict[int, list[tuple[int, int]]]  # first row -> columns, each with its last row


def extract(content: bytes) -> ExtractedText:
    """Return the sheets that are not hidden, a line a row; a sheet's name is a heading.

    Formulas count by the values that were saved with them.

    Raises:
        DocumentRejected: `encrypted`, `corrupt` or `too-complex`.
    """
    builder = TextBuilder()
    with archive.opened(content, what=_WHAT) as members:
        workbook = openpyxl.load_workbook(
            io.BytesIO(content), read_only=True, data_only=True, keep_links=False
        )
        sheets = [sheet for sheet in workbook.worksheets if sheet.sheet_state == "visible"]
        if len(sheets) > _MAX_SHEETS:
            raise DocumentRejected("too-complex", f"It has more than {_MAX_SHEETS:,} sheets.")
        for sheet in sheets:
            builder.add_block(sheet.title, heading_level=1)
            add_tables(builder, _rows(sheet, members), caption_level=2)
    return builder.build()


def _rows(sheet: Any, members: zipfile.ZipFile) -> Iterator[Row]:
    """Yield the rows; a value that is merged over several rows stands in each of them."""
    repeats = _merged_down(members.read(sheet._worksheet_path))
    repeated: dict[int, tuple[int, str]] = {}
    sheet.reset_dimensions()  # a file may claim any
    for number, cells in enumerate(sheet.iter_rows(), start=1):
        if number > _MAX_ROWS:
            raise DocumentRejected("too-complex", f"A sheet has more than {_MAX_ROWS:,} rows.")
        row = [_shown(cell) for cell in cells]
        for column, (last, value) in repeated.items():
            if number <= last and column < len(row) and not row[column]:
                row[column] = value
        for column, last in repeats.get(number, ()):
            if column < len(row):
                repeated[column] = (last, row[column])
        yield row


def _merged_down(sheet_xml: bytes) -> _Repeats:
    """Return where cells are merged over rows, which openpyxl does not tell while streaming."""
    found: _Repeats = defaultdict(list)
    for number, match in enumerate(_MERGED.finditer(sheet_xml)):
        if number == _MAX_MERGED:
            raise DocumentRejected("too-complex", f"It merges more than {_MAX_MERGED:,} cells.")
        column, first, _, last = range_boundaries(match[1].decode())
        if last > first:
            found[first].append((column - 1, last))
    return found


def _shown(cell: Any) -> str:
    """Return a cell's value; dates in ISO 8601, numbers without the noise of binary fractions."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.datetime):
        midnight = value.time() == datetime.time()
        return value.date().isoformat() if midnight else value.isoformat(" ", "seconds")
    if isinstance(value, int | float):
        return _number(value, cell.number_format)
    return str(value).strip()


def _number(value: float, number_format: str) -> str:
    if "%" in number_format:
        return f"{value * 100:.10g}%"
    return f"{value:.15g}"
