"""Rows of a sheet as lines that are understood alone: `City: Lyon; Country: France`.

A chunk from the middle of a long sheet then still says what its numbers are, to the embedder, to
the search for words, and in a quotation.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, islice

from planes.data.pipeline.extracted import TextBuilder
from planes.shared.errors import DocumentRejected

Row = Sequence[str]
MAX_COLUMNS = 16_384  # as in Excel
_LOOKED_AT = 20  # rows from which titles are told
_MAX_TITLE_CHARS = 100
_LINE_CHARS = 700  # a longer record goes on in another line of the same chunk size
_YEAR_OR_DATE = re.compile(r"(?:19|20)\d\d(?:[-/]\d\d?){0,2}")
_LETTER = re.compile(r"[^\W\d_]")


def add_tables(builder: TextBuilder, rows: Iterable[Row], *, caption_level: int) -> None:
    """Append the tables that blank rows separate; each may have a caption and column titles.

    Args:
        builder: Takes them.
        rows: Of stripped cells, by column.
        caption_level: Of the heading that a lone cell above a table is.

    Raises:
        DocumentRejected: `too-complex`: more than 16,384 columns.
    """
    titles: Row = ()
    for filled, table in groupby(rows, key=any):
        if filled:
            titles = _add_table(builder, table, titles, caption_level)


def _add_table(builder: TextBuilder, table: Iterator[Row], before: Row, caption_level: int) -> Row:
    """Append one table; return its column titles, which a table without any takes over."""
    head = list(islice(table, _LOOKED_AT))
    while head and _is_caption(head):
        builder.add_block(_one_line(max(head.pop(0))), heading_level=caption_level)
        before = ()
    titles, lines = before, []
    if _are_titles(head):
        titles = [_one_line(cell).rstrip(":") for cell in head.pop(0)]
        lines.append(piped(titles))
    lines += chain.from_iterable(_lines(titles, row) for row in chain(head, table))
    builder.add_block("\n".join(lines))
    return titles


def piped(cells: Iterable[str]) -> str:
    """Return the cells of a row that has no column titles."""
    return " | ".join(line for cell in cells if (line := _one_line(cell)))


def _is_caption(rows: Sequence[Row]) -> bool:
    """Whether the first row is a lone title above a wider table, or above a blank row."""
    if _filled(rows[0]) != 1 or (len(rows) > 1 and _filled(rows[1]) == 1):
        return False
    return _may_be_title(max(rows[0]))


def _lines(titles: Row, row: Row) -> Iterator[str]:
    if len(row) > MAX_COLUMNS:
        detail = f"A table has more than {MAX_COLUMNS:,} columns. Split it into smaller ones."
        raise DocumentRejected("too-complex", detail)
    if not titles or len(row) > len(titles):
        yield piped(row)
        return
    pairs = [_pair(title, cell) for title, cell in zip(titles, row, strict=False) if cell]
    line = pairs[0] if pairs else ""
    for pair in pairs[1:]:
        if len(line) + len(pair) > _LINE_CHARS:
            yield line
            line = pairs[0] if len(pairs[0]) <= _MAX_TITLE_CHARS else ""
        line = f"{line}; {pair}" if line else pair
    if line:
        yield line


def _pair(title: str, cell: str) -> str:
    return f"{title}: {_one_line(cell)}" if title else _one_line(cell)


def _are_titles(rows: Sequence[Row]) -> bool:
    """Whether the first row names columns: short different words, in most columns."""
    if len(rows) < 2:
        return False
    cells = [cell for cell in rows[0] if cell]
    width = max(map(_filled, rows))
    return (
        len(cells) >= max(2, width / 2)
        and len({cell.casefold() for cell in cells}) == len(cells)
        and any(map(_LETTER.search, cells))
        and all(map(_may_be_title, cells))
    )


def _may_be_title(cell: str) -> bool:
    is_word = _LETTER.search(cell) or _YEAR_OR_DATE.fullmatch(cell)
    return len(cell) <= _MAX_TITLE_CHARS and bool(is_word)


def _filled(row: Row) -> int:
    return sum(1 for cell in row if cell)


def _one_line(cell: str) -> str:
    return " ".join(cell.split())
