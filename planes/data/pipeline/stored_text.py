"""The text of a published version with its pages and headings, as ingestion left it."""

import asyncio
import re
from dataclasses import replace

import orjson

from planes.data.pipeline.extracted import ExtractedText, HeadingSpan, PageSpan
from planes.data.pipeline.load import load_original
from planes.data.pipeline.parse import Parser
from planes.data.pipeline.work import Work
from planes.shared.domain import spans_key, text_key
from planes.shared.errors import DocumentRejected
from planes.shared.index_ports import ChunkWriter
from planes.shared.ports import ObjectStore

_NO_TEXT = DocumentRejected(
    "missing-text", "The extracted text is no longer stored. Process the document again."
)


class StoredTexts:
    """Reads what ingestion stored. Spans that an older version did not store are found again."""

    def __init__(self, objects: ObjectStore, store: ChunkWriter, parser: Parser) -> None:
        """Store where texts, live chunks and originals come from."""
        self._objects = objects
        self._store = store
        self._parser = parser

    async def read(self, work: Work, *, live: int) -> ExtractedText:
        """Return a version's text and spans.

        Args:
            work: The version.
            live: The generation that is searched.

        Raises:
            DocumentRejected: Text or original are gone or damaged.
            Unavailable: The chunk store or the parser does not answer.
        """
        place = work.tenant_id, work.document_id, work.version_id
        try:
            text = (await self._objects.get(text_key(*place))).decode()
        except FileNotFoundError as error:
            raise _NO_TEXT from error
        try:
            spans = orjson.loads(await self._objects.get(spans_key(*place)))
        except FileNotFoundError:
            return await self._with_spans_found(work, text, live)
        return ExtractedText.of(text, spans)

    async def _with_spans_found(self, work: Work, text: str, live: int) -> ExtractedText:
        """Read the original again; where that gives another text, take over what fits this one."""
        content = await load_original(self._objects, work)
        parsed = await asyncio.to_thread(self._parser.parse, content, work.media_type)
        if parsed.text == text:
            return parsed
        pages = await self._store.pages(work.tenant_id, work.version_id, generation=live)
        return replace(
            with_headings_of(parsed, text), pages=tuple(PageSpan(*page) for page in pages)
        )


def with_headings_of(parsed: ExtractedText, text: str) -> ExtractedText:
    """Return `text` with those headings of another reading that are lines of it, in their order."""
    found: list[HeadingSpan] = []
    after = 0
    for span in parsed.headings:
        title = re.escape(parsed.text[span.start : span.end])
        line = re.compile(rf"^{title}$", re.MULTILINE).search(text, after)
        if line is not None:
            found.append(HeadingSpan(span.level, line.start(), line.end()))
            after = line.end()
    return ExtractedText(text, headings=tuple(found))
