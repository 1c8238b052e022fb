"""The articles of a set of questions, chunked, embedded and published as the product does it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from planes.data.pipeline.chunk import Chunker
from planes.data.pipeline.extracted import ExtractedText
from planes.shared.analysis import detect_language
from planes.shared.domain import Chunk, chunk_id, new_id
from planes.shared.embedding import MiniLMEmbedder, load_tokenizer
from tests.fakes_serving import Library


@dataclass(frozen=True, slots=True)
class Article:
    """A document of whole paragraphs; `paragraphs` holds (id, start) in reading order."""

    name: str
    text: str
    paragraphs: Sequence[tuple[str, int]]

    def paragraph_at(self, place: int) -> str:
        """Return the id of the paragraph that a character is in."""
        return [name for name, start in self.paragraphs if start <= place][-1]


def read_articles(corpus: Path) -> dict[str, Article]:
    """Return the articles by name, their paragraphs joined by blank lines."""
    paragraphs: dict[str, list[dict[str, Any]]] = {}
    for line in corpus.read_text("utf-8").splitlines():
        row = json.loads(line)
        paragraphs.setdefault(row["metadata"]["article"], []).append(row)
    return {name: _article(name, rows) for name, rows in paragraphs.items()}


def _article(name: str, rows: Sequence[dict[str, Any]]) -> Article:
    starts, text = [], ""
    for row in rows:
        text += "\n\n" if text else ""
        starts.append((row["_id"], len(text)))
        text += row["text"]
    return Article(name, text, starts)


async def publish(
    urls: Mapping[str, str], embedder: MiniLMEmbedder, articles: Mapping[str, Article]
) -> tuple[UUID, dict[str, UUID]]:
    """Publish the articles of a new tenant; return it and the document of each article."""
    library, chunker = Library(urls, embedder), Chunker(load_tokenizer())
    tenant = await library.add_tenant()
    documents = {}
    for article in articles.values():
        chunks = _chunks(tenant, article, chunker)
        documents[article.name] = chunks[0].document_id
        await library.add_chunks(f"{article.name}.txt", chunks)
    return tenant, documents


def _chunks(tenant: UUID, article: Article, chunker: Chunker) -> list[Chunk]:
    document, version = new_id(), new_id()
    language = detect_language(article.text)
    return [
        Chunk(
            id=chunk_id(version, ordinal),
            tenant_id=tenant,
            document_id=document,
            version_id=version,
            ordinal=ordinal,
            start=found.start,
            end=found.end,
            page=found.page,
            heading=found.heading,
            text=found.text,
            language=language,
        )
        for ordinal, found in enumerate(chunker.chunk(ExtractedText(article.text)))
    ]
