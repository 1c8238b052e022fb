"""Generations of the index made, switched and dropped: in the registry and in the chunk store."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import asyncpg

from planes.shared.domain import IndexRecipe
from planes.shared.errors import Conflict, InvalidInput
from planes.shared.recipe import check_recipe, dimension_of
from planes.shared.stores.chunks_by_generation import ChunksByGeneration
from planes.shared.stores.living_versions import LIVING_VERSIONS
from planes.shared.stores.postgres import Connection, Database
from planes.shared.stores.postgres_generations import GenerationProgress, PostgresGenerations
from planes.shared.stores.searchable_versions import incomplete, searchable_versions

_SWITCH_S = 600
_LONGEST_PUBLICATION = timedelta(minutes=10)  # its transaction's beginning is when it was published
_BEGIN_SWITCH = "SELECT begin_switch($1, $2)"
_PAGE = 100
_PLACES = 8  # looked at in a document for one that is long enough
_LEAST_CHARS = 60
_TAKE_TURN = "SELECT pg_advisory_xact_lock(keepers_lock())"
_NEXT = "SELECT max(number) + 1 FROM generations"
_INSERT = """
INSERT INTO generations (number, embedder, dimension, chunker, state, store)
VALUES ($1, $2, $3, $4, 'building', $5)
"""
_INSERT_COPY = """
INSERT INTO generations (number, embedder, dimension, chunker, state, store, copy_of)
SELECT $2, g.embedder, g.dimension, g.chunker, 'building', $3, coalesce(g.copy_of, g.number)
FROM generations g WHERE g.number = $1
"""
_DIMENSION = "SELECT dimension FROM generations WHERE number = $1"
_SAMPLED = f"""
SELECT v.tenant_id, v.document_id, v.id, v.chunk_count FROM {LIVING_VERSIONS}
JOIN version_terms w ON w.version_id = v.id AND w.generation = $1 AND w.counted
ORDER BY md5(v.document_id::text || $2), v.id LIMIT $3 OFFSET $4
"""  # noqa: S608 (a constant)


class GenerationKeeper(PostgresGenerations):
    """The generations in the hands of the schema's owner: no service may.

    Switching and dropping are ordered by one lock of the database, making by another; it is held
    while the store acts, which takes a second connection. Every method raises `Unavailable` where a
    store does not answer.
    """

    def __init__(
        self, database: Database, store: ChunksByGeneration, *, models_dir: Path | None = None
    ) -> None:
        """Store the registry, the chunk stores, and where folders of embedding models are."""
        super().__init__(database, models_dir=models_dir)
        self._store = store

    async def exact_progress(
        self, number: int, *, since: datetime | None = None
    ) -> GenerationProgress:
        """Return how far a generation is, having counted the chunks of each version.

        Args:
            number: The generation.
            since: Only of versions that were published then and later, or are not counted any
                more: somebody has found them wrong since.
        """
        versions = missing = 0
        async for page in searchable_versions(self._database, number):
            wanted = [
                one
                for one in page
                if since is None or one.published_at >= since or one.chunks is None
            ]
            versions += len(wanted)
            missing += len(await incomplete(wanted, self._store, generation=number))
        return GenerationProgress(versions, missing)

    async def sample(
        self, number: int, *, live: int, chunks: int, seed: int
    ) -> list[tuple[UUID, UUID, str]]:
        """Return (tenant, document, text) of live chunks of documents that a generation holds.

        Args:
            number: The generation.
            live: The generation from which the chunks are.
            chunks: At most so many, of all tenants; one of a document at most.
            seed: The same chunks come for the same seed.
        """
        found: list[tuple[UUID, UUID, str]] = []
        offset = 0
        while True:
            async with self._database.platform() as connection:
                rows = await connection.fetch(_SAMPLED, number, str(seed), _PAGE, offset)
            for row in rows:
                text = await self._long_text(row, live, seed)
                if text is not None:
                    found.append((row["tenant_id"], row["document_id"], text))
                if len(found) == chunks:
                    return found
            if len(rows) < _PAGE:
                return found
            offset += _PAGE

    async def create(self, recipe: IndexRecipe) -> int:
        """Make an empty generation beside the live one, where new ones go; return its number.

        Raises:
            InvalidInput: There is no such embedder or chunker.
        """
        check_recipe(recipe, self._models_dir)
        dimension, kind = dimension_of(recipe.embedder, self._models_dir), self._store.default
        async with self._act() as connection:
            number = await self._make(connection, dimension, kind)
            await connection.execute(
                _INSERT, number, recipe.embedder, dimension, recipe.chunker, kind
            )
        return number

    async def create_copy(self, source: int, *, store: str) -> int:
        """Make an empty generation in another store, to hold the chunks of one that there is.

        Args:
            source: The generation that it is to be a copy of.
            store: The kind of the store.

        Returns:
            Its number.

        Raises:
            InvalidInput: The store cannot do what is needed.
        """
        async with self._act() as connection:
            dimension = await connection.fetchval(_DIMENSION, source)
            number = await self._make(connection, dimension, store)
            await connection.execute(_INSERT_COPY, source, number, store)
        return number

    async def _make(self, connection: Connection, dimension: int, kind: str) -> int:
        """Make a generation in a store; no other is made until the transaction ends."""
        await connection.execute(_TAKE_TURN, timeout=_SWITCH_S)
        number = int(await connection.fetchval(_NEXT))
        store = await self._store.kept_in(kind)
        await store.drop_generation(number)  # what an attempt left that did not end well
        await store.create_generation(number, dimension)
        return number

    async def note_verified(self, number: int, verified: dict[str, Any]) -> None:
        """Keep that a copy was found to hold what it is a copy of."""
        async with self._database.platform() as connection:
            await connection.execute(
                "UPDATE generations SET verified = $2 WHERE number = $1", number, verified
            )

    async def switch(self, number: int, *, unevaluated: bool = False) -> int:
        """Make a generation the searched one, in one step, if it holds every searchable version.

        Returns:
            How many versions it lacks; above 0 nothing was changed.

        Raises:
            Conflict: It is live, gone, or was never compared, or verified where it is a copy, and
                `unevaluated` does not allow that.
        """
        try:
            generation = await self.get(number)
        except InvalidInput as error:
            raise Conflict(error.detail) from error
        if generation.copy_of is not None and generation.live_at is None and not unevaluated:
            if generation.verified is None:
                raise Conflict(f"Generation {number} was never compared with what it copies.")
            unevaluated = True
        began = await self._begin_switch(number, unevaluated=unevaluated)
        if missing := (await self.exact_progress(number)).missing:  # while others publish
            return missing
        async with self._act() as connection:
            await connection.execute(_BEGIN_SWITCH, number, unevaluated, timeout=_SWITCH_S)
            missing = (await self.exact_progress(number, since=began)).missing
            if not missing:
                await connection.execute("SELECT complete_switch($1)", number, timeout=_SWITCH_S)
        return missing

    async def _begin_switch(self, number: int, *, unevaluated: bool) -> datetime:
        """Refuse what cannot be switched to; return what no publication under way began before."""
        async with self._act() as connection:
            await connection.execute(_BEGIN_SWITCH, number, unevaluated, timeout=_SWITCH_S)
            now: datetime = await connection.fetchval("SELECT now()")
        return now - _LONGEST_PUBLICATION

    async def drop(self, number: int) -> None:
        """Remove a generation that is not live, and its chunks.

        Raises:
            Conflict: It is live, or still in use.
        """
        async with self._act() as connection:
            await connection.execute("SELECT forget_generation($1)", number, timeout=_SWITCH_S)
            await self._store.drop_generation(number)

    async def _long_text(self, version: asyncpg.Record, live: int, seed: int) -> str | None:
        """Return the text of a chunk that is long enough, the first of some picked at random."""
        ordinals = Random(f"{seed}:{version['document_id']}").sample(  # noqa: S311 (not a secret)
            range(version["chunk_count"]), min(_PLACES, version["chunk_count"])
        )
        places = [(version["id"], ordinal) for ordinal in ordinals]
        chunks = await self._store.chunks_at(version["tenant_id"], places, generation=live)
        long = {c.ordinal: c.text for c in chunks if len(c.text) >= _LEAST_CHARS}
        return next((long[ordinal] for ordinal in ordinals if ordinal in long), None)

    @asynccontextmanager
    async def _act(self) -> AsyncIterator[Connection]:
        """Open a transaction that may take ten minutes; what it refuses is a `Conflict`."""
        try:
            async with self._database.platform() as connection, connection.transaction():
                await connection.execute(f"SET LOCAL statement_timeout = '{_SWITCH_S}s'")
                yield connection
        except asyncpg.RaiseError as error:
            raise Conflict(str(error)) from error
