"""What the demonstration uploads and asks."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from docx import Document

_PROJECT = Path(__file__).parents[2]

_LEAVE = """Brightwater Ferries: handbook for the crew

Leave

Every member of the crew has 31 days of paid leave a year. Leave that is not taken by the end of
March lapses. Requests go to the shore office three weeks ahead.

Uniform

The company provides two jackets and four shirts. Lost pieces are replaced once a year.
"""

_TIMETABLE = """<!doctype html>
<html lang="en"><head><title>Brightwater Ferries: winter timetable</title></head><body>
<h1>Winter timetable</h1>
<p>The winter timetable is valid from 1 November to 31 March.</p>
<h2>Harbour to Heron Island</h2>
<p>The first ferry to Heron Island leaves the harbour at 6:40 in the morning and the last one at
21:15. The crossing takes 35 minutes.</p>
<h2>In a storm</h2>
<p>No ferry leaves when the wind is stronger than nine Beaufort. Tickets stay valid for a week.</p>
</body></html>
"""

_ENGINE = (
    "The Kestrel was built in 2011 and has two diesel engines of 720 kilowatts each.",
    "The oil of the main engines is changed after every 450 hours of operation.",
    "The emergency pump is tested on the first Monday of each month by the chief engineer.",
)


@dataclass(frozen=True, slots=True)
class Question:
    """A question with what a right answer quotes."""

    text: str
    quoted: str
    stream: bool = False


QUESTIONS = (
    Question("How many days of paid leave does the crew have?", "31 days"),
    Question("When does the last ferry to Heron Island leave the harbour?", "21:15", stream=True),
    Question("After how many hours is the oil of the main engines changed?", "450 hours"),
)


def files() -> Iterator[tuple[str, bytes]]:
    """Yield name and content: this project's documentation and three files made here."""
    for path in (_PROJECT / "README.md", *sorted((_PROJECT / "docs").glob("*.md"))):
        if path.exists() and path.stat().st_size:
            yield path.name, path.read_bytes()
    yield "crew-handbook.txt", _LEAVE.encode()
    yield "winter-timetable.html", _TIMETABLE.encode()
    yield "engine-maintenance.docx", _engine_document()


def _engine_document() -> bytes:
    document = Document()
    document.add_heading("MV Kestrel: maintenance of the engines", level=1)
    for paragraph in _ENGINE:
        document.add_paragraph(paragraph)
    buffer = BytesIO()
    document.save(buffer)
    return buffer.getvalue()
