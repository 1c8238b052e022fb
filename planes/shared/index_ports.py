"""The seams that vectors pass: where chunks are kept, searched and put in order.

They stand apart from `ports`, because the gateway's image holds no numpy.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias
from uuid import UUID

from planes.shared.domain import Arms, Chunk, Heading, Ranked, SearchScope, VersionCount

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Vectors: TypeAlias = "NDArray[np.float32]"
"""One vector, or one in each row."""

Embedded: TypeAlias = tuple[Chunk, Vectors]
"""A chunk and its vector."""


class Reranker(Protocol):
    """Reads the best of a ranking together with the question, and orders them anew.

    Attributes:
        depth: How many of a ranking it reads.
    """

    depth: int

    async def rerank(
        self, question: str, vector: Vectors, ranked: Sequence[Ranked], first: Sequence[Chunk]
    ) -> list[Ranked]:
        """Return the same candidates, best first.

        Args:
            question: As it was searched for.
            vector: Of the question.
            ranked: The whole pool, best first.
            first: The chunks of its first `depth` candidates, in their order.

        Raises:
            Unavailable: The model does not answer.
        """
        ...


class ChunkReader(Protocol):
    """Embedded chunks as the serving plane reads them.

    What holds for every method of the three chunk protocols:

    - Every query names the tenant; another tenant's chunk is as absent. Callers name generations
      that the store holds; with another one a method finds nothing, or raises `Unavailable`.
    - Chunks come back as they were written, to the last code point; vectors are float32.
    - Driver errors become `Unavailable`, within a deadline. A write that failed may be there in
      parts, and is repeated.
    - Sequences of any length are taken; an adapter splits what its server does not take at once.
    - The registry is not theirs: which versions may be shown, how often terms occur, tags and
      metadata of documents stay in PostgreSQL. An adapter whose chunks stand elsewhere asks
      `SearchRegistry` (`stores/postgres_search_registry.py`) for what a search needs of it; where a
      filter means more documents than one query takes, it searches in parts and keeps the best.
    """

    async def search(
        self, question: str, vector: Vectors, *, scope: SearchScope, depth: int
    ) -> Arms:
        """Return the best `depth` chunks in `scope` by meaning and by words, with both scores.

        Without their texts: a question looks at few of them, and reads those by `chunks_of`.

        The whole scope stands inside the store's query, so that what is hidden takes nobody's
        place. The union of both arms comes in no order. Fusion (`retrieval/fusion.py`) brings each
        arm to its own mean and deviation, so the scores of one arm only need to be of one scale.

        - dense: the cosine of question and chunk, from -1 to 1.
        - lexical: the sum over the question's terms of inverse document frequency times a measure
          of the term in the chunk, 0 or more. Candidates hold one of the `rarest` terms
          (`planes/shared/lexical.py`), of the `selective` ones among them, or several `together`;
          chunks that only the dense arm found are scored by all terms too. An adapter that asks its
          server's own lexical search takes that score.
        - A score that the store cannot fill without another query over all chunks is None.

        Where more than `depth` chunks tie at an arm's end, those with the lowest ids stay, so that
        a repetition gives the same; an approximate index may break that, and says so.

        Args:
            question: Any text; one without a known term leaves the lexical arm empty.
            vector: Of the question, unit length.
            scope: What may be seen; `document_ids` and `documents` both hold. An empty tuple of
                `document_ids` finds nothing.
            depth: Of each arm, 1 to 1,000.

        Raises:
            InvalidInput: The filter means more documents than the store can take.
            Unavailable: The store or the registry does not answer.
        """
        ...

    async def chunks_of(
        self, tenant_id: UUID, chunk_ids: Sequence[UUID], *, generation: int
    ) -> list[Chunk]:
        """Return the chunks with these ids, those that there are, none twice, in no order.

        Raises:
            Unavailable: The store does not answer.
        """
        ...

    async def chunks_at(
        self, tenant_id: UUID, places: Sequence[tuple[UUID, int]], *, generation: int
    ) -> list[Chunk]:
        """Return the chunks at (version, ordinal), those that there are, in no order.

        Raises:
            Unavailable: The store does not answer.
        """
        ...

    async def chunks_around(
        self, tenant_id: UUID, spans: Sequence[tuple[UUID, int, int]], *, generation: int
    ) -> list[Chunk]:
        """Return every chunk that holds the whole of at least one span, none twice, in no order.

        Args:
            tenant_id: Whose chunks.
            spans: (version, start, end) in code points of the version's text; a chunk holds one
                where `chunk.start <= start` and `end <= chunk.end`.
            generation: Which generation.

        Raises:
            Unavailable: The store does not answer.
        """
        ...

    async def headings(
        self, tenant_id: UUID, version_id: UUID, *, generation: int, limit: int
    ) -> list[Heading]:
        """Return the first `limit` different headings of a version, empty ones left out.

        They are in the order of the first chunk below each, by `start`; `page` is the lowest.

        Raises:
            Unavailable: The store does not answer.
        """
        ...


class ChunkWriter(Protocol):
    """Embedded chunks as the data plane writes, checks and removes them, generation by generation.

    A chunk's id is `chunk_id(version_id, ordinal)`. Its terms for a lexical index of our own are
    `indexed_terms(chunk)` (`planes/shared/indexing.py`). What `ChunkReader` says holds here too.

    Every method raises `Unavailable` where the store does not answer.
    """

    async def replace_versions(
        self, chunks: Sequence[Chunk], vectors: Vectors, *, generation: int
    ) -> None:
        """Make `chunks` the whole content of their versions; repeating it changes nothing.

        Nobody reads these versions meanwhile, so it need not happen in one step. Of two writers of
        the same chunks at least one succeeds, and the version is whole once both have ended.

        Args:
            chunks: Of one tenant; at least one of each version that is meant.
            vectors: Shape (len(chunks), dimension of the generation), unit length.
            generation: Which generation.
        """
        ...

    async def add_chunks(
        self, chunks: Sequence[Chunk], vectors: Vectors, *, generation: int
    ) -> None:
        """Add chunks of one tenant; one with an id that is there already replaces it.

        Arguments are those of `replace_versions`. Other chunks of the versions stay as they are.
        """
        ...

    async def count_versions(
        self, tenant_id: UUID, version_ids: Sequence[UUID], *, generation: int
    ) -> dict[UUID, int]:
        """Return how many chunks of each version a search would find; one without any is absent.

        A version is published once this shows all of it. So a store whose index lags behind its
        writes waits here until the index has what was written, at most its deadline, and else
        tells what the index has.
        """
        ...

    async def count_everywhere(self, tenant_id: UUID, version_ids: Sequence[UUID]) -> int:
        """Return how many chunks versions have in all generations together."""
        ...

    async def remove_everywhere(self, tenant_id: UUID, version_id: UUID) -> int:
        """Remove a version's chunks from every generation and return how many there were."""
        ...

    async def remove_tenant(self, tenant_id: UUID) -> int:
        """Remove every chunk of a tenant from every generation and return how many there were."""
        ...

    async def fingerprints(
        self, tenant_id: UUID, version_id: UUID, *, generation: int
    ) -> dict[UUID, str]:
        """Return a version's chunks by their ids, each with what `fingerprint` gives for it."""
        ...

    async def remove_chunks(
        self, tenant_id: UUID, chunk_ids: Sequence[UUID], *, generation: int
    ) -> None:
        """Remove single chunks, those that there are."""
        ...

    async def pages(
        self, tenant_id: UUID, version_id: UUID, *, generation: int
    ) -> list[tuple[int, int, int]]:
        """Return (page, lowest start, highest end) of a version's pages with chunks, by page."""
        ...

    async def vectors(
        self, tenant_id: UUID, chunk_ids: Sequence[UUID], *, generation: int
    ) -> dict[UUID, Vectors]:
        """Return the vectors of chunks, those that there are, as they were written."""
        ...

    def embedded_chunks(
        self, tenant_id: UUID, version_ids: Sequence[UUID], *, generation: int
    ) -> AsyncGenerator[list[Embedded], None]:
        """Yield every chunk of versions with its vector, once, at most 500 at a time, in no order.

        What is written or removed meanwhile may be missing or in it.
        """
        ...

    async def tenants(self, *, generation: int) -> list[UUID]:
        """Return the tenants that have chunks, for checks and copies of everything; in no order."""
        ...

    def version_counts(
        self, tenant_id: UUID, *, generation: int
    ) -> AsyncGenerator[list[VersionCount], None]:
        """Yield every version of a tenant that has chunks, once, about 1,000 at a time.

        They are in no order. What is written or removed meanwhile may be missing or in it.
        """
        ...


class ChunkKeeper(Protocol):
    """The generations of the index, as the operator's commands keep them.

    In each generation chunks have vectors of one dimension. Its number is never used again.
    """

    async def generations(self) -> dict[int, int]:
        """Return the dimensions of the generations that the store holds, by number.

        Raises:
            Unavailable: The store does not answer.
        """
        ...

    async def create_generation(self, number: int, dimension: int) -> None:
        """Make room for a generation, with its indexes, and return once it can be searched.

        One that is there with this dimension stays as it is, so that it can be repeated.

        Raises:
            Conflict: It is there with another dimension.
            Unavailable: The store does not answer, or its index is not ready in time.
        """
        ...

    async def drop_generation(self, number: int) -> None:
        """Remove a generation and all its chunks, if it is there.

        Raises:
            Unavailable: The store does not answer.
        """
        ...


class ChunkStore(ChunkReader, ChunkWriter, ChunkKeeper, Protocol):
    """Embedded chunks of every tenant, searchable by meaning and by words.

    Chunks of a generation are one table or collection, named `chunks_g` and the number.
    """

    async def open(self) -> None:
        """Connect, and find out what the server can.

        Raises:
            InvalidInput: The server cannot do what is needed; it says what to install or to set.
            Unavailable: The server does not answer.
        """
        ...

    async def close(self) -> None:
        """Give back what `open` took; repeating it changes nothing."""
        ...

    async def describe(self) -> dict[str, str]:
        """Return what the server is and can, in words, for `polyplane doctor` and readiness.

        Raises:
            Unavailable: The store does not answer.
        """
        ...
