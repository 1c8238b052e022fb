"""Every way in which files arrive: alone, in batches, as texts, by address, as new content."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from planes.shared.domain import TenantContext
from planes.shared.errors import InvalidInput, UnsupportedMediaType
from planes.shared.media_types import PLAIN, SNIFFED_BYTES, media_type_of
from planes.shared.ports import ObjectStore
from services.gateway.auth.models import Account
from services.gateway.documents.batches import INTENTS_AT_ONCE, Batch
from services.gateway.documents.fetching import UrlFetcher
from services.gateway.documents.forms import UploadForm
from services.gateway.documents.labels import Labels
from services.gateway.documents.outcomes import batch_answer, upload_answer
from services.gateway.documents.registration import Refusal, Registrar
from services.gateway.documents.registration_repository import Submission
from services.gateway.documents.schemas import (
    BatchAnswer,
    TextsInput,
    UploadAnswer,
    UrlInput,
)
from services.gateway.documents.uploads import Read, Uploads, clean_name
from services.gateway.documents.versions import Versions
from services.gateway.idempotency.service import Effect


@dataclass(frozen=True, slots=True)
class Received:
    """The files of a form, stored but not yet documents."""

    submissions: Sequence[Submission]
    refusals: Sequence[Refusal]

    def content(self) -> dict[str, object]:
        """Return what makes two forms the same request; boundaries differ between repeats."""
        return {
            "files": [[each.file.sha256.hex(), each.file.name] for each in self.submissions],
            "refused": [each.name for each in self.refusals],
            "labels": [[each.labels.tags, each.labels.metadata] for each in self.submissions[:1]],
        }


class Receiver:
    """Receives files and makes them documents.

    Forms are received first and registered then, because what they hold decides whether a request
    is a repeat. What was received and not registered is removed at the end of the block.
    """

    def __init__(
        self,
        uploads: Uploads,
        objects: ObjectStore,
        registrar: Registrar,
        versions: Versions,
        fetcher: UrlFetcher,
    ) -> None:
        """Store the parts."""
        self._uploads = uploads
        self._objects = objects
        self._registrar = registrar
        self._versions = versions
        self._fetcher = fetcher

    @asynccontextmanager
    async def file(
        self, form: UploadForm, context: TenantContext, document_id: UUID | None = None
    ) -> AsyncIterator[Received]:
        """Receive a form with one file; `document_id` says whose next version it is.

        Raises:
            PlatformError: The form or the file is refused (400, 413, 415, 422).
        """
        async with self._uploads.session(context, document_id=document_id) as session:
            filename = await form.next_file()
            if filename is None:
                raise InvalidInput("The form has no file in the field `file`.")
            file = await session.store(filename, form.read)
            if await form.next_file() is not None:
                raise InvalidInput("Send one file, or several to `POST /documents/batch`.")
            yield Received([Submission(file, form.labels())], [])

    @asynccontextmanager
    async def batch(self, form: UploadForm, context: TenantContext) -> AsyncIterator[Received]:
        """Receive a form with many files; what cannot be taken of them is among the refusals.

        Raises:
            PlatformError: The form as a whole is refused (400, 413, 422).
        """
        async with self._uploads.session(context, files=INTENTS_AT_ONCE) as session:
            batch = Batch(session, self._objects)
            while (filename := await form.next_file()) is not None:
                await batch.take(filename, form.read)
            labels = form.labels()
            if not batch.files and not batch.refusals:
                raise InvalidInput("The form has no file in the field `files`.")
            yield Received([Submission(file, labels) for file in batch.files], batch.refusals)

    async def register(
        self, received: Received, context: TenantContext, effect: Effect
    ) -> UploadAnswer:
        """Make the one file a document; known bytes return what is known of them.

        Raises:
            QuotaExceeded: Of documents or storage.
        """
        return await self._registrar.register(received.submissions, context, effect, upload_answer)

    async def register_batch(
        self, received: Received, context: TenantContext, effect: Effect
    ) -> BatchAnswer:
        """Make the files documents, with one job for all.

        Raises:
            PlatformError: None of them can be taken.
        """
        return await self._registrar.register(
            received.submissions,
            context,
            effect,
            lambda registered: batch_answer(registered, received.refusals),
        )

    async def replace(self, received: Received, account: Account, effect: Effect) -> UploadAnswer:
        """Make the one file the next version of its document; see `Versions.replace`."""
        return await self._versions.replace(received.submissions[0].file, account, effect)

    async def fetch(self, wanted: UrlInput, context: TenantContext, effect: Effect) -> UploadAnswer:
        """Make the file at an address a document.

        Raises:
            PlatformError: The address or the file is refused, or a quota is used up.
        """
        async with self._uploads.session(context) as session:
            async with self._fetcher.open(wanted.url) as remote:
                file = await session.store(remote.name, remote.read, declared=remote.media_type)
            received = Received([Submission(file, Labels(wanted.tags, {}))], [])
            return await self.register(received, context, effect)

    async def ingest(
        self, wanted: TextsInput, context: TenantContext, effect: Effect
    ) -> BatchAnswer:
        """Make texts documents, with one job for all.

        Raises:
            QuotaExceeded: For none of them does the quota suffice.
        """
        async with self._uploads.session(context, files=len(wanted.documents)) as session:
            submissions = []
            for each in wanted.documents:
                name = clean_name(each.name)
                kind = _text_type(name, each.text)
                file = await session.store_known(name, kind, _pieces(each.text))
                submissions.append(Submission(file, Labels([], each.metadata)))
            return await self.register_batch(Received(submissions, []), context, effect)


def _pieces(text: str) -> Read:
    pieces = iter((text.encode(),))

    async def read() -> bytes:
        return next(pieces, b"")

    return read


def _text_type(name: str, text: str) -> str:
    """Return the type that a text's name says, if it is one of texts."""
    try:
        media_type = media_type_of(name, text[:SNIFFED_BYTES].encode()[:SNIFFED_BYTES])
    except UnsupportedMediaType:
        return PLAIN
    return media_type if media_type.startswith("text/") else PLAIN
