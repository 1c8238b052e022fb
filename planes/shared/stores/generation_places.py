"""Which store has which generation of the index, as the registry says."""

import asyncio
from collections.abc import Callable, Mapping

from planes.shared.errors import InvalidInput, Unavailable
from planes.shared.index_ports import ChunkStore
from planes.shared.stores.postgres import Database

_KNOWN = """
SELECT number, coalesce(store, $1) AS store, store IS NOT NULL AS is_settled, state = 'live' AS live
FROM generations WHERE state <> 'dropped' ORDER BY number
"""


class GenerationPlaces:
    """The stores of the generations; each is connected when it is first needed.

    A generation's store never changes, so it is asked for once; what goes over all generations asks
    again.

    Attributes:
        default: Where new generations are made.
        live: Where the live one stood when the registry was last asked.
    """

    def __init__(
        self, database: Database, makers: Mapping[str, Callable[[], ChunkStore]], *, default: str
    ) -> None:
        """Store the parts.

        Args:
            database: The registry's, opened and closed by the caller.
            makers: Returns a store that is not yet open, by its kind.
            default: Where the generations stand of which the registry does not know it yet, and
                where new ones are made.
        """
        self.default = self.live = default
        self._database = database
        self._makers = makers
        self._opened: dict[str, ChunkStore] = {}
        self._opening = asyncio.Lock()
        self._kinds: dict[int, str] = {}

    async def open(self) -> None:
        """Connect the store of the live generation.

        Raises:
            InvalidInput: It cannot do what is needed, or no address is set of a store that has a
                generation.
            Unavailable: It does not answer, or the database does not.
        """
        kinds = await self.kinds()
        for number, kind in kinds.items():
            if kind not in self._makers:
                raise InvalidInput(_without_address(number, kind))
        await self.kept_in(self.live)

    async def close(self) -> None:
        """Close what was opened; repeating it changes nothing."""
        while self._opened:
            _, store = self._opened.popitem()
            await store.close()

    async def describe(self) -> dict[str, str]:
        """Return what the store of the live generation is and can, in words."""
        await self.kinds()
        return await (await self.kept_in(self.live)).describe()

    async def kinds(self) -> dict[int, str]:
        """Return the store of each generation that was not dropped, by number.

        Raises:
            Unavailable: The database does not answer.
        """
        async with self._database.platform() as connection:
            rows = await connection.fetch(_KNOWN, self.default)
        self._kinds |= {row["number"]: row["store"] for row in rows if row["is_settled"]}
        self.live = next((row["store"] for row in rows if row["live"]), self.default)
        return {row["number"]: row["store"] for row in rows}

    async def kept_in(self, kind: str) -> ChunkStore:
        """Return the open store of a kind.

        Raises:
            InvalidInput: It cannot do what is needed, or its address is not set.
            Unavailable: It does not answer.
        """
        if kind not in self._makers:
            raise InvalidInput(f"There is no address of a store {kind!r}: set {kind.upper()}_URL.")
        if kind not in self._opened:
            async with self._opening:
                if kind not in self._opened:
                    store = self._makers[kind]()
                    await store.open()
                    self._opened[kind] = store
        return self._opened[kind]

    async def holding(self, generation: int) -> ChunkStore:
        """Return the store that has a generation.

        Raises:
            Unavailable: There is no such generation, or its store does not answer, cannot do what
                is needed, or has no address in this process.
        """
        kind = self._kinds.get(generation) or (await self.kinds()).get(generation)
        if kind is None:
            raise Unavailable("The index is being changed. Try again in a moment.")
        if kind not in self._makers:
            raise Unavailable(_without_address(generation, kind))
        try:
            return await self.kept_in(kind)
        except InvalidInput as error:  # who asks now is not to blame
            raise Unavailable(error.detail) from error

    async def holding_any(self) -> list[ChunkStore]:
        """Return every store that has a generation.

        Raises:
            Unavailable: One of them cannot be reached.
        """
        numbers = {kind: number for number, kind in (await self.kinds()).items()}
        return [await self.holding(number) for number in numbers.values()]


def _without_address(generation: int, kind: str) -> str:
    return (
        f"Generation {generation} of the index stands in {kind}: set {kind.upper()}_URL, or drop "
        "the generation first."
    )
