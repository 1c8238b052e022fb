"""MongoDB: a client whose every wait has a deadline, and what its server can."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import pymongo
import structlog
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConfigurationError, ConnectionFailure, OperationFailure, PyMongoError
from pymongo.monitoring import CommandListener

from planes.shared.deadlines import seconds_left
from planes.shared.errors import InvalidInput, Unavailable

Document: TypeAlias = dict[str, Any]
Collection: TypeAlias = "AsyncCollection[Document]"

_CONNECT_MS = 5000
_IDLE_MS = 300_000
_LEAST_S = 0.5  # to put things right after a task's deadline
_NO_ANSWER = "The chunk store does not answer. Try again in a moment."
_NOT_ALLOWED = {13, 18, 8000}  # Unauthorized, AuthenticationFailed, AtlasError
_NO_SEARCH = {
    59,  # CommandNotFound
    115,  # CommandNotSupported
    238,  # NotImplemented
    31082,  # SearchNotEnabled
    6047401,  # the same, of a server without mongot beside it
    40324,  # a stage of a pipeline that the server does not know
    40234,  # the same, as FerretDB numbers it
}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MongoServer:
    """What a server is, and whether it has search indexes, `$vectorSearch` and `$search`."""

    name: str
    has_search: bool


class Mongo:
    """One database of a MongoDB server."""

    def __init__(
        self,
        url: str,
        *,
        database: str,
        service: str,
        deadline_s: float = 30.0,
        listeners: Sequence[CommandListener] = (),
    ) -> None:
        """Store where the database is; `open` connects.

        Args:
            url: `mongodb://` or `mongodb+srv://`, with user and password where needed.
            database: Its name.
            service: Shown in the server's log.
            deadline_s: How long one operation may take, retries and waits included. Less where less
                is left of `task_within`.
            listeners: Told of each command.
        """
        self.deadline_s = deadline_s
        self._url = url
        self._name = database
        self._service = service
        self._listeners = list(listeners)
        self._client: AsyncMongoClient[Document] | None = None

    async def open(self) -> MongoServer:
        """Connect, and find out what the server can.

        Raises:
            InvalidInput: The address or the account is wrong.
            Unavailable: The server does not answer.
        """
        await self.close()
        self._client = self._new_client()
        try:
            return await self.find_out()
        except BaseException:
            await self.close()
            raise

    def _new_client(self) -> "AsyncMongoClient[Document]":
        try:
            return AsyncMongoClient(
                self._url,
                appname=self._service,
                timeoutMS=round(self.deadline_s * 1000),
                serverSelectionTimeoutMS=_CONNECT_MS,
                connectTimeoutMS=_CONNECT_MS,
                waitQueueTimeoutMS=_CONNECT_MS,
                maxIdleTimeMS=_IDLE_MS,
                w="majority",
                event_listeners=self._listeners,
            )
        except (ConfigurationError, ValueError) as error:
            raise InvalidInput("MONGO_URL is not an address of MongoDB.") from error

    async def find_out(self) -> MongoServer:
        """Ask what the server is and can.

        Raises:
            InvalidInput: The account is wrong.
            Unavailable: The server does not answer, or this is not open.
        """
        try:
            with self.waiting():
                return await _found_out(self.database)
        except _NotAllowed as error:
            raise InvalidInput(error.detail) from error

    async def close(self) -> None:
        """Close every connection; repeating it changes nothing."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    @property
    def database(self) -> "AsyncDatabase[Document]":
        """The database, whose calls belong within `waiting`.

        Raises:
            Unavailable: It is not open.
        """
        if self._client is None:
            raise Unavailable("The chunk store is not open.")
        return self._client[self._name]

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Give what is done within it a deadline, and translate the driver's errors.

        Raises:
            Unavailable: The server does not answer, fails, or does not allow it to this account,
                whose rights or password were changed since `open`.
        """
        try:
            with pymongo.timeout(min(self.deadline_s, max(seconds_left(), _LEAST_S))):
                yield
        except ConnectionFailure as error:
            raise Unavailable(_NO_ANSWER) from error
        except OperationFailure as error:
            if error.code in _NOT_ALLOWED:
                _log.error("mongodb refuses", code=error.code, error=first_line(error))
                raise _NotAllowed(
                    "MongoDB does not let the account of MONGO_URL do this: "
                    f"{first_line(error)}. It needs the role readWrite on the database, and the "
                    "serving plane the role read."
                ) from error
            _log.warning("mongodb failed", code=error.code, error=first_line(error))
            raise Unavailable(_NO_ANSWER) from error
        except PyMongoError as error:
            _log.warning("mongodb failed", error=first_line(error))
            raise Unavailable(_NO_ANSWER) from error


class _NotAllowed(Unavailable):
    """The account is wrong, or lacks a right."""


def first_line(error: Exception) -> str:
    """Return what a driver says, without the server's whole answer."""
    return str(error).partition(", full error:")[0].partition("\n")[0][:300]


async def _found_out(database: "AsyncDatabase[Document]") -> MongoServer:
    build = await database.client.admin.command("buildInfo")
    kind = "FerretDB" if "ferretdbVersion" in build else "MongoDB"
    name = f"{kind} {build['version']}" if kind == "MongoDB" else f"{kind} ({build['version']})"
    try:
        await (await database["chunk_generations"].list_search_indexes()).to_list()
    except OperationFailure as error:
        if error.code not in _NO_SEARCH:
            raise
        return MongoServer(name, has_search=False)
    return MongoServer(name, has_search=True)
