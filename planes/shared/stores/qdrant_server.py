"""Calls of a Qdrant server: each within a deadline, repeated once where the connection was lost."""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import httpx
import structlog
from qdrant_client import AsyncQdrantClient
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from planes.shared.deadlines import answer_within, seconds_left
from planes.shared.errors import InvalidInput, Unavailable
from planes.shared.stores.qdrant_settings import QdrantSettings

Answer = TypeVar("Answer")
Call = Callable[[AsyncQdrantClient], Awaitable[Answer]]

_OLDEST = (1, 14)
_CONNECTIONS = httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=30)
_WRITE_S = 60.0
_LEAST_S = 0.1
_PAUSE_S = (0.02, 0.1)
_NO_ANSWER = "Qdrant does not answer."
_REFUSED = {401, 403}
_ABSENT, _IS_THERE = 404, 409
_log = structlog.get_logger(__name__)


class _KeyRefused(Unavailable):
    """Wrong from the start, or changed since."""


class CollectionAbsent(Exception):
    """The collection is not there."""


class QdrantServer:
    """A Qdrant server, or a cluster behind one address."""

    def __init__(self, settings: QdrantSettings) -> None:
        """Store where it is."""
        self._settings = settings
        self._client: AsyncQdrantClient | None = None

    async def open(self) -> None:
        """Connect and look whether the server can do what is needed.

        Raises:
            InvalidInput: There is no address, the key is refused, or the server is too old.
            Unavailable: It does not answer.
        """
        if self._settings.qdrant_url is None:
            raise InvalidInput("Set QDRANT_URL to the address of a Qdrant server.")
        await self.close()  # where it was open already
        key = self._settings.qdrant_api_key
        self._client = AsyncQdrantClient(
            url=self._settings.qdrant_url.get_secret_value(),
            headers={"api-key": key.get_secret_value()} if key else None,
            timeout=round(max(_WRITE_S, self._settings.qdrant_deadline_s)) + 1,
            limits=_CONNECTIONS,
            check_compatibility=False,  # its own way warns, from a thread
        )
        try:
            _check(await self.version())
            await self.call(lambda client: client.get_collections())  # which asks for the key
        except _KeyRefused as error:
            await self.close()
            raise InvalidInput(error.detail) from error
        except CollectionAbsent as error:
            await self.close()
            raise InvalidInput("There is no Qdrant at QDRANT_URL.") from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def version(self) -> str:
        """Return the server's version."""
        return str((await self.call(lambda client: client.info())).version)

    async def write(self, call: Call[Answer]) -> Answer:
        """Do what may take a minute; as `call`, it may be repeated."""
        return await self._within(_WRITE_S, call)

    async def call(self, call: Call[Answer]) -> Answer:
        """Return the server's answer.

        Args:
            call: Does the same when it is done twice.

        Raises:
            CollectionAbsent: It asks for a collection that is not there.
            Unavailable: There is no answer within the deadline, or a refusal.
        """
        return await self._within(self._settings.qdrant_deadline_s, call)

    async def _within(self, seconds: float, call: Call[Answer]) -> Answer:
        client = self._client
        if client is None:
            raise Unavailable("Qdrant is not open.")
        with _translated():
            async with answer_within(min(seconds, max(seconds_left(), _LEAST_S))):
                try:
                    return await call(client)
                except ResponseHandlingException as error:
                    if not _was_lost(error):
                        raise
                await asyncio.sleep(random.uniform(*_PAUSE_S))  # noqa: S311 - not a secret
                return await call(client)


def _check(version: str) -> None:
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise InvalidInput(f"Qdrant {version} is too old: install {oldest} or later.")


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the driver's errors into the platform's."""
    try:
        yield
    except (TimeoutError, ResponseHandlingException) as error:
        raise Unavailable(_NO_ANSWER) from error
    except ResourceExhaustedResponse as error:
        raise Unavailable("Qdrant is overloaded.", retry_after_s=error.retry_after_s) from error
    except UnexpectedResponse as error:
        if error.status_code == _IS_THERE:  # who makes a collection looks what is there
            raise
        if error.status_code == _ABSENT:
            raise CollectionAbsent from error
        _log.error("qdrant refuses", status=error.status_code, reason=str(error)[:300])
        if error.status_code in _REFUSED:
            raise _KeyRefused("Qdrant refuses the key: set QDRANT_API_KEY.") from error
        raise Unavailable(_NO_ANSWER) from error


def _was_lost(error: ResponseHandlingException) -> bool:
    """Tell whether the connection ended, as one kept open does when a server starts anew."""
    return isinstance(error.source, httpx.NetworkError | httpx.RemoteProtocolError)
