"""What a backup says about itself, in the file that makes it whole."""

import hashlib
import os
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from planes.shared.domain import IndexRecipe
from planes.shared.errors import InvalidInput
from planes.shared.stores.postgres_snapshot import LedgerTotal, LiveGeneration

MANIFEST = "manifest.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileNote(_Part):
    """A file's size and SHA-256."""

    size_bytes: int
    sha256: str


class TableNote(_Part):
    """A table's columns in the order of its file, and how many rows it had."""

    columns: list[str]
    rows: int


class GenerationNote(_Part):
    """The searched generation of the index: the one that a backup holds."""

    number: int
    embedder: str
    chunker: str
    dimension: int

    @classmethod
    def of(cls, live: LiveGeneration) -> "GenerationNote":
        """Return the note of a generation."""
        recipe = live.recipe
        return cls(
            number=live.number,
            embedder=recipe.embedder,
            chunker=recipe.chunker,
            dimension=live.dimension,
        )

    def generation(self) -> LiveGeneration:
        """Return the generation."""
        return LiveGeneration(self.number, IndexRecipe(self.embedder, self.chunker), self.dimension)


class TenantNote(_Part):
    """What a backup holds of a tenant; `ledger_usd` is the sum of its ledger."""

    versions: int = 0
    chunks: int = 0
    objects: int = 0
    messages: int = 0
    ledger_rows: int = 0
    ledger_usd: Decimal = Decimal(0)

    @property
    def ledger(self) -> LedgerTotal:
        """The totals of its ledger."""
        return LedgerTotal(self.ledger_rows, self.ledger_usd)


class Manifest(_Part):
    """A whole backup. Objects stand in the lists `objects/TENANT.jsonl.gz` among the files."""

    format: Literal[1] = 1
    id: UUID
    made_by: str = Field(description="version of Polyplane")
    began_at: datetime
    snapshot_at: datetime
    ended_at: datetime
    revision: str = Field(description="of the database's schema")
    generation: GenerationNote
    tables: dict[str, TableNote]
    sequences: dict[str, int]
    tenants: dict[UUID, TenantNote]
    files: dict[str, FileNote]

    def write(self, folder: Path) -> None:
        """Write it, flushed to the disk, with a checksum of itself."""
        body = orjson.loads(self.model_dump_json())
        with (folder / MANIFEST).open("xb") as file:
            file.write(orjson.dumps({"manifest": body, "sha256": _sha256(body)}))
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the manifest of a backup.

        Raises:
            InvalidInput: There is none, it was changed, or a newer version wrote it.
        """
        try:
            written = orjson.loads((folder / MANIFEST).read_bytes())
            if written["sha256"] != _sha256(written["manifest"]):
                raise InvalidInput(f"{folder / MANIFEST} was changed after it was written.")
            return cls.model_validate_json(orjson.dumps(written["manifest"]))
        except FileNotFoundError:
            raise InvalidInput(f"{folder} holds no whole backup: {MANIFEST} is missing.") from None
        except (ValueError, KeyError, TypeError, ValidationError, OSError) as error:
            raise InvalidInput(f"{folder / MANIFEST} cannot be read: {error}") from error


def _sha256(body: object) -> str:
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
