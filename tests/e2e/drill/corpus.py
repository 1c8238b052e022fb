"""A small mix of files of which it is known what must become of each."""

import email.message
import io
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import docx
import fpdf
import openpyxl

_SUBJECTS = ("lighthouse", "harbour", "ferry", "bridge", "signal station", "lock", "quay", "crane")
_ACTS = ("was rebuilt", "was painted", "was measured", "lost its roof", "was sold", "was surveyed")
_PARAGRAPHS = 40


@dataclass(frozen=True, slots=True)
class Entry:
    """What the manifest says of a file.

    Attributes:
        name: Of the file.
        content: Of the file.
        marks: Words of which each stands exactly once in the chunks of a ready document.
        error: The code with which it must fail; None where it must become ready.
    """

    name: str
    content: bytes
    marks: tuple[str, ...] = ()
    error: str | None = None


class Corpus:
    """Makes files that differ from each other and are the same for one seed."""

    def __init__(self, seed: str) -> None:
        """Store the seed, which stands in every mark."""
        self._seed = seed
        self._source = random.Random(seed)  # noqa: S311 - nothing secret
        self._numbers = itertools.count()

    def mix(self) -> list[Entry]:
        """Return a file of each kind, and two that fail by their nature."""
        damaged = b"%PDF-1.7\n" + self._source.randbytes(400)
        blank = (" \n" * self._source.randint(300, 40_000)).encode()
        return [
            self.markdown(),
            self._entry("page.html", _html),
            self._entry("table.csv", _csv),
            self._entry("letter.docx", _docx),
            self._entry("sheet.xlsx", _xlsx),
            self._entry("paper.pdf", _pdf),
            self._entry("mail.eml", _eml),
            Entry("damaged.pdf", damaged, error="corrupt"),
            Entry("blank.txt", blank, error="no-text"),
        ]

    def markdown(self) -> Entry:
        """Return a file with headings."""
        return self._entry("guide.md", _markdown)

    def _entry(self, name: str, render: Callable[[Sequence[str]], bytes]) -> Entry:
        number = next(self._numbers)
        marks = tuple(f"mark{self._seed}x{number}x{n}" for n in range(_PARAGRAPHS))
        lines = [self._line(mark) for mark in marks]
        return Entry(name, render(lines), marks)

    def _line(self, mark: str) -> str:
        year, choice = self._source.randint(1700, 1999), self._source.choice
        return (
            f"In {year} the {choice(_SUBJECTS)} {mark} {choice(_ACTS)}, "
            f"and the {choice(_SUBJECTS)} beside it {choice(_ACTS)}."
        )


def _markdown(lines: Sequence[str]) -> bytes:
    half = len(lines) // 2
    parts = ["# Field book", "## Coast", *lines[:half], "## Rivers", *lines[half:]]
    return "\n\n".join(parts).encode()


def _html(lines: Sequence[str]) -> bytes:
    body = "".join(f"<p>{line}</p>" for line in lines)
    return f"<html><body><h1>Field book</h1>{body}</body></html>".encode()


def _csv(lines: Sequence[str]) -> bytes:
    rows = (f'{number},"{line}"' for number, line in enumerate(lines))
    return "\n".join(["number,entry", *rows]).encode()


def _docx(lines: Sequence[str]) -> bytes:
    document, stream = docx.Document(), io.BytesIO()
    document.add_heading("Field book", 1)
    for line in lines:
        document.add_paragraph(line)
    document.save(stream)
    return stream.getvalue()


def _xlsx(lines: Sequence[str]) -> bytes:
    book, stream = openpyxl.Workbook(), io.BytesIO()
    book.active.append(["number", "entry"])
    for row in enumerate(lines):
        book.active.append(row)
    book.save(stream)
    return stream.getvalue()


def _pdf(lines: Sequence[str]) -> bytes:
    paper = fpdf.FPDF()
    for page in (lines[:20], lines[20:]):
        paper.add_page()
        paper.set_font("helvetica", size=11)
        for line in page:
            paper.multi_cell(0, 6, line, new_x="LMARGIN", new_y="NEXT")
    return bytes(paper.output())


def _eml(lines: Sequence[str]) -> bytes:
    message = email.message.EmailMessage()
    message["From"], message["To"] = "keeper@example.com", "office@example.com"
    message["Subject"] = "Field book"
    message.set_content("\n\n".join(lines))
    return message.as_bytes()
