"""What must hold of the whole index at any time, over all tenants.

Counts come from functions of the database that see every tenant and tell nothing but numbers and
ids; texts are read within their tenant alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from planes.data.pipeline.drift import Drift, drift
from planes.data.pipeline.version_folders import version_folders
from planes.shared.domain import text_key
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
_SAMPLED_CHUNKS = """
SELECT id, char_start, char_end, body, vector_norm(embedding) AS norm FROM {table}
WHERE version_id = $1 ORDER BY random() LIMIT $2
"""


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

    Every method raises `Unavailable` where the database does not answer.
    """

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        """Store the database and the object store."""
        self._database = database
        self._objects = objects

    async def counts(self) -> list[asyncpg.Record]:
        """Return what `index_counts` in 0004_sources.sql counts, a row for each tenant."""
        async with self._database.platform() as connection:
            return await connection.fetch("SELECT * FROM index_counts()")

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
        query = _SAMPLED_CHUNKS.format(table=f"chunks_g{int(live)}")
        for place in sampled:
            rows, text = await self._read(place, query)
            chunks += len(rows)
            where = f"version {place['id']} of tenant {place['tenant_id']}"
            if any(not abs(row["norm"] - 1) <= NORM_TOLERANCE for row in rows):
                wrong_norms.append(where)
            if text is not None and any(_is_wrong(row, text) for row in rows):
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
        self, place: asyncpg.Record, query: str
    ) -> tuple[list[asyncpg.Record], str | None]:
        async with self._database.tenant(place["tenant_id"]) as connection:
            rows = await connection.fetch(query, place["id"], _CHUNKS)
        key = text_key(place["tenant_id"], place["document_id"], place["id"])
        try:
            return rows, (await self._objects.get(key)).decode()
        except FileNotFoundError:  # another check tells
            return rows, None

    async def _distribution(self, start: datetime, end: datetime) -> dict[str, dict[str, int]]:
        async with self._database.platform() as connection:
            rows = await connection.fetch(
                "SELECT * FROM published_distribution($1, $2)", start, end
            )
        found: dict[str, dict[str, int]] = {"language": {}, "length": {}}
        for row in rows:
            found[row["feature"]][row["bucket"]] = row["versions"]
        return found


def check_counts(rows: Sequence[asyncpg.Record]) -> dict[str, Finding]:
    """Judge `IndexQuality.counts`: registry and index agree, no orphans, nothing there twice."""
    faults = {
        "counts_agree": ("differing", "{} versions have another number of chunks"),
        "no_orphan_chunks": ("orphans", "{} chunks belong to no version"),
        "no_repeated_chunks": ("repeated", "{} chunks stand in the index twice"),
    }
    return {name: _counted(rows, column, said) for name, (column, said) in faults.items()}


def _counted(rows: Sequence[asyncpg.Record], column: str, said: str) -> Finding:
    shown = ("versions", "registry_chunks", "index_chunks", column)
    table = [f"| tenant | {' | '.join(shown)} |", "|---|--:|--:|--:|--:|"]
    worst = sorted(rows, key=lambda row: (-row[column], -row["versions"]))[:_NAMED]
    table += [
        f"| {row['tenant_id']} | {' | '.join(str(row[name]) for name in shown)} |" for row in worst
    ]
    return Finding(
        [f"tenant {row['tenant_id']}: {said.format(row[column])}" for row in rows if row[column]],
        {name.replace("_", " "): sum(row[name] for row in rows) for name in shown},
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


def _is_wrong(row: asyncpg.Record, text: str) -> bool:
    return bool(text[row["char_start"] : row["char_end"]] != row["body"])
