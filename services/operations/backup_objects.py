"""Files and texts, copied from any object store and to any other."""

import asyncio
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

import orjson

from planes.shared.errors import Conflict, InvalidInput
from planes.shared.ports import ObjectStore
from services.operations.backup_folder import Backup, NewBackup
from services.operations.lacks import Lacks
from services.operations.stores import side_by_side
from services.operations.work_lists import Version


@dataclass(frozen=True, slots=True)
class ObjectNote:
    """An object; `mark` is its store's, which changes whenever the content does."""

    key: str
    size_bytes: int
    sha256: str
    mark: str


class ObjectCopier:
    """Copies objects into a backup; what an earlier one holds unchanged is linked, not read."""

    def __init__(
        self, store: ObjectStore, backup: NewBackup, earlier: Backup | None, lacks: Lacks
    ) -> None:
        """Store from where and to where, an earlier backup on the same disk, and who is told."""
        self._store = store
        self._backup = backup
        self._earlier = earlier
        self._lacks = lacks

    async def copy(self, versions: Sequence[Version], output: BinaryIO) -> int:
        """Copy the objects of a tenant's versions, write a line for each, and return how many.

        Objects that are missing, and uploaded files that are not what they were, are noted.

        Raises:
            OSError: The store does not answer, or the disk is full.
        """
        tenant_id = versions[0].tenant_id
        originals = {version.original: version for version in versions}
        folders = {key.rpartition("/")[0] for key in originals}
        missing = {key: version for version in versions for key in version.needs}
        known = self._known(tenant_id)
        notes: list[ObjectNote] = []

        async def one(key: str) -> None:
            note = await self._linked(known.get(key)) or await self._copied(key)
            if key in originals and note.sha256 != originals[key].sha256:
                lack = f"the file {key} is damaged: its SHA-256 is not the upload's"
                self._lacks.note(tenant_id, originals[key].subject, lack)
            notes.append(note)

        count = 0
        async for page in self._store.keys(f"{tenant_id}/"):
            keys = [key for key in page if key.rpartition("/")[0] in folders]
            for key in keys:
                missing.pop(key, None)
            await side_by_side(keys, one)
            output.writelines(map(_line, notes))
            count += len(notes)
            notes.clear()
        for key, version in missing.items():
            self._lacks.note(tenant_id, version.subject, f"the object store lacks {key}")
        return count

    def _known(self, tenant_id: UUID) -> dict[str, ObjectNote]:
        name = object_list(tenant_id)
        if self._earlier is None or name not in self._earlier.manifest.files:
            return {}
        try:
            self._earlier.check_file(name)
        except InvalidInput:  # read all anew
            return {}
        with self._earlier.file(name) as lines:
            return {note.key: note for note in object_notes(lines)}

    async def _linked(self, note: ObjectNote | None) -> ObjectNote | None:
        """Link an object of the earlier backup; None where it changed or cannot be linked."""
        if note is None or self._earlier is None:
            return None
        if (await self._store.stat(note.key)).mark != note.mark:
            return None
        path = object_path(self._backup.folder, note.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.hardlink_to(object_path(self._earlier.folder, note.key))
        except OSError:  # another disk, or the file was lost: read it anew
            return None
        return note

    async def _copied(self, key: str) -> ObjectNote:
        mark = (await self._store.stat(key)).mark
        async with self._backup.objects.writer(key) as writer:
            async for block in self._store.stream(key):
                await writer.write(block)
        return ObjectNote(key, writer.size_bytes, writer.sha256.hex(), mark)


async def restore_objects(store: ObjectStore, backup: Backup, lines: Iterable[bytes]) -> int:
    """Copy objects of a backup to a store, and return how many; to repeat it changes nothing.

    Raises:
        InvalidInput: One is damaged.
        OSError: The store does not answer.
    """
    count = 0

    async def put(note: ObjectNote) -> None:
        nonlocal count
        async with store.writer(note.key) as writer:
            async for block in backup.objects.stream(note.key):
                await writer.write(block)
            if writer.sha256.hex() != note.sha256:
                raise InvalidInput(_damaged(object_path(backup.folder, note.key)))
        count += 1

    await side_by_side(object_notes(lines), put)
    return count


async def compare_objects(store: ObjectStore, lines: Iterable[bytes]) -> None:
    """Read objects back, block by block, and compare them with their hashes.

    Raises:
        Conflict: The store holds others.
        OSError: The store does not answer.
    """

    async def compare(note: ObjectNote) -> None:
        sha256 = hashlib.sha256()
        async for block in store.stream(note.key):
            sha256.update(block)
        if sha256.hexdigest() != note.sha256:
            raise Conflict(f"The object store holds another file {note.key} than the backup.")

    await side_by_side(object_notes(lines), compare)


async def check_objects(backup: Backup, lines: Iterable[bytes]) -> int:
    """Compare objects of a backup with their hashes, and return how many.

    Raises:
        InvalidInput: One is missing or was changed.
    """
    count = 0
    for note in object_notes(lines):
        path = object_path(backup.folder, note.key)
        if not await asyncio.to_thread(_is_as_noted, path, note):
            raise InvalidInput(_damaged(path))
        count += 1
    return count


def object_list(tenant_id: UUID) -> str:
    """Return the name of the file that lists a tenant's objects."""
    return f"files/{tenant_id}.jsonl.gz"


def object_path(folder: Path, key: str) -> Path:
    """Return where a backup keeps an object."""
    return folder / "objects" / key


def object_notes(lines: Iterable[bytes]) -> Iterator[ObjectNote]:
    """Yield the objects of a list."""
    for line in lines:
        yield ObjectNote(**orjson.loads(line))


def _is_as_noted(path: Path, note: ObjectNote) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == note.sha256
    except FileNotFoundError:
        return False


def _damaged(path: Path) -> str:
    return f"{path} is missing or damaged: its SHA-256 is not the one that was noted."


def _line(note: ObjectNote) -> bytes:
    return orjson.dumps(asdict(note), option=orjson.OPT_APPEND_NEWLINE)
