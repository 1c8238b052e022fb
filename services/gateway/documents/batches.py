"""Taking the files of one batch: those that cannot be taken do not sink the others."""

from planes.shared.errors import (
    ContentTooLarge,
    InvalidInput,
    PlatformError,
    UnsupportedMediaType,
)
from planes.shared.ports import ObjectStore
from services.gateway.documents.archives import is_archive, open_archive
from services.gateway.documents.registration import Refusal
from services.gateway.documents.uploads import Read, StoredFile, UploadSession

INTENTS_AT_ONCE = 64
_OF_ONE_FILE = (ContentTooLarge, InvalidInput, UnsupportedMediaType)
_MAX_NAME_CHARS = 255


class Batch:
    """The files of one request, of its parts and of the archives among them.

    Attributes:
        files: What was stored, in the order of arrival.
        refusals: What cannot be taken.
    """

    def __init__(self, session: UploadSession, objects: ObjectStore) -> None:
        """Store where files go, and where archives are read from meanwhile."""
        self.files: list[StoredFile] = []
        self.refusals: list[Refusal] = []
        self._session = session
        self._objects = objects
        self._count = self._archived_bytes = 0

    async def take(self, filename: str | None, read: Read) -> None:
        """Take one file, or all files of an archive.

        Raises:
            ContentTooLarge: The batch has too many files, or archives that hold too much.
            Unavailable: The store or the database does not answer.
        """
        self._add(1)
        if not is_archive(filename):
            await self._take_file(filename, read)
            return
        try:
            async with self._session.store_archive(read) as key:
                await self._take_archive(key)
        except InvalidInput as problem:
            self._refuse(filename, problem)

    async def _take_archive(self, key: str) -> None:
        with await self._objects.open(key) as file:
            archive = await open_archive(file)
            limits = self._session.limits
            members = archive.members(limits.file_bytes)
            if not members:
                raise InvalidInput("The archive holds no files.")
            self._add(len(members) - 1)  # they take the archive's place; a refused one keeps it
            self._archived_bytes += sum(each.info.file_size for each in members)
            if self._archived_bytes > limits.batch_bytes:
                raise ContentTooLarge(
                    f"The files of the archive have more than {limits.batch_bytes:,} bytes."
                )
            for member in members:
                if member.problem is not None:
                    self._refuse(member.name, member.problem)
                    continue
                try:
                    read = await archive.reader(member)
                except InvalidInput as problem:
                    self._refuse(member.name, problem)
                    continue
                await self._take_file(member.name, read)

    async def _take_file(self, filename: str | None, read: Read) -> None:
        try:
            self.files.append(await self._session.store(filename, read))
        except _OF_ONE_FILE as problem:
            self._refuse(filename, problem)

    def _add(self, files: int) -> None:
        self._count += files
        if self._count > self._session.limits.batch_files:
            raise ContentTooLarge(
                f"A batch has at most {self._session.limits.batch_files:,} files."
            )

    def _refuse(self, filename: str | None, problem: PlatformError) -> None:
        shown = "".join(char for char in filename or "" if char.isprintable())
        self.refusals.append(Refusal(shown[-_MAX_NAME_CHARS:], problem))
