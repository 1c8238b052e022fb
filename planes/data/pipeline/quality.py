"""What must hold of the whole index at any time, over all tenants.

Chunks, texts and versions are read within their tenant; functions of the database that see every
tenant tell nothing but numbers and ids.
"""

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from planes.data.pipeline.drift import Drift, drift
from planes.data.pipeline.index_counts import IndexCounter, TenantCounts
from planes.data.pipeline.version_folders import version_folders
from planes.shared.domain import Chunk, text_key
from planes.shared.index_ports import ChunkStore
from planes.shared.ports import ObjectStore
from planes.shared.stores.postgres import Database

NORM_TOLERANCE = 1e-3
_RECENT = timedelta(days=1)
_BEFORE = timedelta(days=30)
_PAGE = 2000
_CHUNKS = 20  # of a sampled version
_NAMED = 20
_FIRST = UUID(int=0)

_LIVE = """
SELECT id, document_id FROM document_versions
WHERE tenant_id = $1 AND visibility = 'live' AND status = 'ready' AND id > $2 ORDER BY id LIMIT $3
"""
_HELD = """
SELECT v.id FROM document_versions v JOIN documents d ON d.id = v.document_id
WHERE v.tenant_id = $1 AND v.id = ANY ($2)
  AND (d.deleted_at IS NULL OR EXISTS (
      SELECT FROM deletions l WHERE l.document_id = d.id AND l.completed_at IS NULL))
UNION ALL SELECT u.version_id FROM uploads u WHERE u.tenant_id = $1 AND u.version_id = ANY ($2)
"""
_CHUNK_COUNT = "SELECT chunk_count FROM document_versions WHERE tenant_id = $1 AND id = $2"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        at_fault: What is wrong where, one entry each; empty where the check holds.
        numbers: What was counted.
        table: The same by tenant or by bucket, as Markdown.
    """

    at_fault: Sequence[str] = ()
    numbers: Mapping[str, int | float] = field(default_factory=dict)
    table: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing is at fault."""
        return not self.at_fault

    @property
    def named(self) -> list[str]:
        """The first of what is at fault, few enough to show."""
        return list(self.at_fault[:_NAMED])


class IndexQuality:
    """The checks of the whole index.

    Every method raises `Unavailable` where a store does not answer.
    """

    def __init__(self, database: Database, objects: ObjectStore, store: ChunkStore) -> None:
        """Store the database, the object store and the chunk store."""
        self._database = database
        self._objects = objects
        self._store = store

    async def counts(self) -> list[TenantCounts]:
        """Return what registry and index count, a row for each tenant."""
        return await IndexCounter(self._database, self._store).count()

    async def check_texts(self, tenants: Iterable[UUID]) -> Finding:
        """Look for the extracted text of every searchable version of some tenants."""
        missing: list[str] = []
        versions = 0
        for tenant_id in tenants:
            texts = await self._live_texts(tenant_id)
            versions += len(texts)
            # looked at after the registry: a version goes live after its text is stored
            async for keys in self._objects.keys(f"{tenant_id}/documents/"):
                for key in keys:
                    texts.pop(key, None)
            missing += await self._still_live(tenant_id, texts)
        return Finding(missing, {"versions": versions, "without text": len(missing)})

    async def check_files(self) -> Finding:
        """Look for files of versions that the registry does not know, or no more."""
        strays: list[str] = []
        folders = 0
        async for tenant_id, versions in version_folders(self._objects):
            folders += len(versions)
            strays += await self._strays(tenant_id, versions)
        return Finding(strays, {"folders": folders, "without a version": len(strays)})

    async def check_sample(self, versions: int) -> dict[str, Finding]:
        """Read chunks of some versions: vectors have length 1, offsets give the text."""
        wrong_norms: list[str] = []
        wrong_offsets: list[str] = []
        chunks = 0
        async with self._database.platform() as connection:
            sampled = await connection.fetch("SELECT * FROM sampled_versions($1)", versions)
            live = await connection.fetchval("SELECT number FROM generations WHERE state = 'live'")
        for place in sampled:
            held, norms, text = await self._read(place, live)
            chunks += len(held)
            where = f"version {place['id']} of tenant {place['tenant_id']}"
            if any(not abs(norm - 1) <= NORM_TOLERANCE for norm in norms):
                wrong_norms.append(where)
            if text is not None and any(_is_wrong(chunk, text) for chunk in held):
                wrong_offsets.append(where)
        numbers = {"versions": len(sampled), "chunks": chunks}
        return {
            "vectors_of_length_one": Finding(wrong_norms, numbers),
            "offsets_give_texts": Finding(wrong_offsets, numbers),
        }

    async def check_drift(self, *, psi: float, least: int) -> dict[str, Finding]:
        """Compare what was published in the last day with the 30 days before.

        Args:
            psi: The population stability index above which a distribution has drifted.
            least: Documents below which, on either side, nothing is told.
        """
        since = datetime.now(UTC) - _RECENT
        recent = await self._distribution(since, datetime.now(UTC))
        before = await self._distribution(since - _BEFORE, since)
        labels = {"language": "language", "length": "characters, power of two"}
        return {
            f"{feature}_drift": _drifted(
                drift(recent[feature], before[feature], least=least), label, psi
            )
            for feature, label in labels.items()
        }

    async def _live_texts(self, tenant_id: UUID) -> dict[str, UUID]:
        """Return the keys of the texts of every searchable version, with the version's id."""
        keys: dict[str, UUID] = {}
        after = _FIRST
        while True:
            async with self._database.tenant(tenant_id) as connection:
                rows = await connection.fetch(_LIVE, tenant_id, after, _PAGE)
            if not rows:
                return keys
            keys |= {text_key(tenant_id, row["document_id"], row["id"]): row["id"] for row in rows}
            after = rows[-1]["id"]

    async def _still_live(self, tenant_id: UUID, keys: Mapping[str, UUID]) -> list[str]:
        """Return the keys of versions that were not removed meanwhile."""
        if not keys:
            return []
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(
                "SELECT id FROM document_versions WHERE tenant_id = $1 AND id = ANY ($2) "
                "AND visibility = 'live'",
                tenant_id,
                list(keys.values()),
            )
        live = {row["id"] for row in rows}
        return [key for key, version in keys.items() if version in live]

    async def _strays(self, tenant_id: UUID, folders: Mapping[UUID, str]) -> list[str]:
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(_HELD, tenant_id, list(folders))
        held = {row["id"] for row in rows}
        absent = [folder for version, folder in folders.items() if version not in held]
        # looked at after the registry: what was removed meanwhile is no stray
        return [folder for folder in absent if await self._objects.count_prefix(f"{folder}/")]

    async def _read(
        self, place: asyncpg.Record, generation: int
    ) -> tuple[list[Chunk], list[float], str | None]:
        """Return some chunks of a version, the lengths of their vectors, and the version's text."""
        tenant_id, version_id = place["tenant_id"], place["id"]
        async with self._database.tenant(tenant_id) as connection:
            count = await connection.fetchval(_CHUNK_COUNT, tenant_id, version_id) or 0
        ordinals = random.sample(range(count), min(_CHUNKS, count))  # nosec B311
        chunks = await self._store.chunks_at(
            tenant_id, [(version_id, ordinal) for ordinal in ordinals], generation=generation
        )
        vectors = await self._store.vectors(
            tenant_id, [chunk.id for chunk in chunks], generation=generation
        )
        norms = [math.hypot(*vector.tolist()) for vector in vectors.values()]
        try:
            key = text_key(tenant_id, place["document_id"], version_id)
            return chunks, norms, (await self._objects.get(key)).decode()
        except FileNotFoundError:  # another check tells
            return chunks, norms, None

    async def _distribution(self, start: datetime, end: datetime) -> dict[str, dict[str, int]]:
        async with self._database.platform() as connection:
            rows = await connection.fetch(
                "SELECT * FROM published_distribution($1, $2)", start, end
            )
        found: dict[str, dict[str, int]] = {"language": {}, "length": {}}
        for row in rows:
            found[row["feature"]][row["bucket"]] = row["versions"]
        return found


def check_counts(rows: Sequence[TenantCounts]) -> dict[str, Finding]:
    """Judge `IndexQuality.counts`: registry and index agree, no orphans, nothing there twice."""
    faults = {
        "counts_agree": ("differing", "{} versions have another number of chunks"),
        "no_orphan_chunks": ("orphans", "{} chunks belong to no version"),
        "no_repeated_chunks": ("repeated", "{} chunks stand in the index twice"),
    }
    return {name: _counted(rows, column, said) for name, (column, said) in faults.items()}


def _counted(rows: Sequence[TenantCounts], column: str, said: str) -> Finding:
    shown = ("versions", "registry_chunks", "index_chunks", column)
    table = [f"| tenant | {' | '.join(shown)} |", "|---|--:|--:|--:|--:|"]
    counts = {row.tenant_id: {name: int(getattr(row, name)) for name in shown} for row in rows}
    worst = sorted(counts.items(), key=lambda one: (-one[1][column], -one[1]["versions"]))[:_NAMED]
    table += [f"| {tenant} | {' | '.join(map(str, own.values()))} |" for tenant, own in worst]
    return Finding(
        [
            f"tenant {tenant}: {said.format(own[column])}"
            for tenant, own in counts.items()
            if own[column]
        ],
        {name.replace("_", " "): sum(own[name] for own in counts.values()) for name in shown},
        "\n".join(table),
    )


def _drifted(found: Drift, label: str, limit: float) -> Finding:
    numbers: dict[str, int | float] = {
        "recent": sum(found.recent.values()),
        "before": sum(found.before.values()),
    }
    if found.psi is None:
        return Finding((), numbers, found.table(label))
    numbers["population stability index"] = round(found.psi, 4)
    at_fault = [f"the index is {found.psi:.3f}, above {limit:.3f}"] if found.psi > limit else []
    return Finding(at_fault, numbers, found.table(label))


def _is_wrong(chunk: Chunk, text: str) -> bool:
    return text[chunk.start : chunk.end] != chunk.text
