"""The generations of the index in PostgreSQL: what they lack, and which one is searched."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from planes.shared.domain import IndexRecipe
from planes.shared.errors import Conflict, InvalidInput
from planes.shared.recipe import difference
from planes.shared.stores.postgres import Database

_ALL = "SELECT * FROM generations WHERE state <> 'dropped' ORDER BY number"


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation.

    `state` is building, live or retired. `build` tells what the builder did last, `evaluation` how
    the generation compares with the live one, and `verified` what of a copy was compared with what
    it was copied from; each is None before the first time. `store` is the kind of the store that
    has the chunks, None until the registry knows it. `copy_of` is the first of all generations that
    hold the same chunks, None where it is this one.
    """

    number: int
    recipe: IndexRecipe
    state: str
    created_at: datetime
    live_at: datetime | None
    retired_at: datetime | None
    build_wanted: bool
    build: dict[str, Any] | None
    evaluation: dict[str, Any] | None
    store: str | None
    copy_of: int | None
    verified: dict[str, Any] | None

    def holds_what(self, other: "Generation") -> bool:
        """Tell whether both are copies of one generation, or one of them of the other."""
        return (self.copy_of or self.number) == (other.copy_of or other.number)


@dataclass(frozen=True, slots=True)
class GenerationProgress:
    """How many searchable versions there are, over all tenants, and how many are missing."""

    versions: int
    missing: int


class PostgresGenerations:
    """The generations, in the hands of the data plane or of the operator.

    `hidden_versions` and `note_evaluation` need the owner of the schema: no service may.
    Every method raises `Unavailable` where the database does not answer.
    """

    def __init__(self, database: Database, *, models_dir: Path | None = None) -> None:
        """Store the database, and where folders of embedding models are."""
        self._database = database
        self._models_dir = models_dir

    async def all(self) -> list[Generation]:
        """Return the generations that were not dropped, the oldest first."""
        async with self._database.platform() as connection:
            return [_generation(row) for row in await connection.fetch(_ALL)]

    async def get(self, number: int) -> Generation:
        """Return one generation.

        Raises:
            InvalidInput: There is none of that number.
        """
        for generation in await self.all():
            if generation.number == number:
                return generation
        raise InvalidInput(f"There is no generation {number}.")

    async def live(self) -> Generation:
        """Return the generation that is searched."""
        return next(one for one in await self.all() if one.state == "live")

    async def previous(self) -> Generation:
        """Return the generation that was searched before the live one.

        Raises:
            Conflict: There is none, or it was dropped.
        """
        retired = [one for one in await self.all() if one.retired_at and one.state == "retired"]
        if not retired:
            raise Conflict("No generation was live before this one, so there is nothing to go to.")
        return max(retired, key=lambda one: one.retired_at or one.created_at)

    async def difference(self, configured: IndexRecipe) -> str | None:
        """Tell how what is configured differs from the live generation; None: it does not.

        Raises:
            InvalidInput: Nothing can make what is configured.
        """
        return difference((await self.live()).recipe, configured, self._models_dir)

    async def progress(self, number: int) -> GenerationProgress:
        """Return how far a generation is by what was counted, without a look at the chunks."""
        async with self._database.platform() as connection:
            row = await connection.fetchrow("SELECT * FROM generation_progress($1, false)", number)
        return GenerationProgress(row["versions"], row["missing"]) if row else _NOTHING

    async def want_build(self, number: int, *, wanted: bool = True) -> None:
        """Say whether the data plane shall add what a generation lacks."""
        async with self._database.platform() as connection:
            await connection.execute(
                "UPDATE generations SET build_wanted = $2 WHERE number = $1", number, wanted
            )

    async def note_build(self, number: int, build: dict[str, Any], *, is_done: bool) -> None:
        """Keep what the builder did; nothing more is wanted of it once `is_done`."""
        async with self._database.platform() as connection:
            await connection.execute(
                "UPDATE generations SET build = $2, build_wanted = build_wanted AND NOT $3 "
                "WHERE number = $1",
                number,
                build,
                is_done,
            )

    async def note_evaluation(self, number: int, evaluation: dict[str, Any]) -> None:
        """Keep how a generation compares with the live one."""
        async with self._database.platform() as connection:
            await connection.execute(
                "UPDATE generations SET evaluation = $2 WHERE number = $1", number, evaluation
            )

    async def hidden_versions(self, tenant_id: UUID) -> list[UUID]:
        """Return the versions of a tenant that no search may show."""
        async with self._database.platform() as connection:
            hidden = "SELECT hidden_versions FROM search_scope($1)"
            return list(await connection.fetchval(hidden, tenant_id))


_NOTHING = GenerationProgress(0, 0)


def _generation(row: asyncpg.Record) -> Generation:
    return Generation(
        number=row["number"],
        recipe=IndexRecipe(row["embedder"], row["chunker"]),
        state=row["state"],
        created_at=row["created_at"],
        live_at=row["live_at"],
        retired_at=row["retired_at"],
        build_wanted=row["build_wanted"],
        build=row["build"],
        evaluation=row["evaluation"],
        store=row["store"],
        copy_of=row["copy_of"],
        verified=row["verified"],
    )
