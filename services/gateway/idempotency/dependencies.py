"""What routes ask for: the header, and one line around the work."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Header, Request, Response
from pydantic import BaseModel

from planes.shared.domain import TenantContext
from services.gateway.idempotency.keys import MAX_KEY_CHARS, fingerprint, parse_key
from services.gateway.idempotency.models import RequestId, StoredResponse
from services.gateway.idempotency.service import Effect, IdempotencyService, Replayed

KEY_HEADER = "Idempotency-Key"
REPLAYED = {"idempotency-replayed": "true"}

_IdempotencyKey = Annotated[
    str | None,
    Header(
        alias=KEY_HEADER,
        description="A new string for each request, such as a UUID. The same request with the same "
        "key within 24 hours is answered again as it was, with `Idempotency-Replayed: true`, and "
        "has no second effect. 409: the first one is still being worked on. 422: the key was used "
        "for another request. What failed before it had an effect may be repeated with its key.",
        json_schema_extra={
            "minLength": 1,
            "maxLength": MAX_KEY_CHARS,
            "pattern": r"^[!#-~]+$",
            "examples": ["01a1fd26-1267-7285-bf84-61d8d204dc7a"],
        },
    ),
]


class Repeatable:
    """A request that may carry a key."""

    def __init__(self, service: IdempotencyService, key: str | None, operation: str) -> None:
        """Store the key, and which operation on what it was sent to."""
        self._service = service
        self._key = key
        self._operation = operation

    @property
    def is_keyed(self) -> bool:
        """Whether the client may repeat the request; if not, its content is of no interest."""
        return self._key is not None

    @asynccontextmanager
    async def attempt(
        self,
        context: TenantContext,
        content: BaseModel | Mapping[str, object],
        **decided: object,
    ) -> AsyncIterator[Effect]:
        """Do the work inside the block, and pass the effect to the service that commits it.

        Without a key there is no query and no condition.

        Args:
            context: Who asks.
            content: What was asked: the body as it was parsed, only what the client sent.
            decided: What else decides the answer, as members of the content.

        Raises:
            Replayed: The request was answered before; the application answers it again.
            Conflict: The same request is in flight.
            InvalidInput: The key stands for another request.
        """
        if self._key is None:
            yield Effect()
            return
        if isinstance(content, BaseModel):
            content = content.model_dump(mode="json", exclude_unset=True)
        request = RequestId(context, self._key)
        digest = fingerprint(self._operation, {**content, **decided})
        async with self._service.attempt(request, digest) as effect:
            yield effect


def repeatable(request: Request) -> Repeatable:
    """Return a request as one that may carry a key.

    Raises:
        BadRequest: It carries one that is none.
    """
    key = parse_key(request.headers.getlist(KEY_HEADER))
    query = request.scope["query_string"].decode("latin-1")
    target = f"{request.method} {request.scope['path']}?{query}"
    return Repeatable(request.app.state.idempotency, key, target)


async def _repeatable(request: Request, _key: _IdempotencyKey = None) -> Repeatable:
    return repeatable(request)


Idempotent = Annotated[Repeatable, Depends(_repeatable)]


def replayed(status: int, body: BaseModel) -> Replayed:
    """Return what to raise where the answer of before is put together anew."""
    return Replayed(StoredResponse(status, body.model_dump_json(by_alias=True)))


def install(app: FastAPI) -> None:
    """Make `app` answer repeated requests with what they were answered before."""
    app.add_exception_handler(Replayed, _on_replayed)


async def _on_replayed(_: Request, replayed: Exception) -> Response:
    assert isinstance(replayed, Replayed)  # noqa: S101 (registered for this type)
    stored = replayed.response
    return Response(stored.body, stored.status, REPLAYED, "application/json")
