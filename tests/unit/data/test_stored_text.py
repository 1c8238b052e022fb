"""Headings that an older version did not store."""

from planes.data.pipeline.extracted import ExtractedText, HeadingSpan
from planes.data.pipeline.stored_text import with_headings_of


def test_headings_are_taken_over_where_they_are_lines_of_the_text() -> None:
    parsed_text = "Birds\n\nof Birds and more\n\nHerons (grey)\n\nnew words\n\nGone"
    titles = ((1, "Birds"), (2, "Herons (grey)"), (2, "Gone"))
    spans = [
        HeadingSpan(level, parsed_text.index(title), parsed_text.index(title) + len(title))
        for level, title in titles
    ]
    text = "A page about Birds\n\nBirds\n\nold words\n\nHerons (grey)\n\nthe end"
    found = with_headings_of(ExtractedText(parsed_text, headings=tuple(spans)), text)
    assert found.text == text
    assert [(span.level, text[span.start : span.end]) for span in found.headings] == [
        (1, "Birds"),
        (2, "Herons (grey)"),
    ]
    assert found.headings[0].start == text.index("\nBirds") + 1
