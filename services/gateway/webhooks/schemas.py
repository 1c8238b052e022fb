"""Bodies and answers of `/webhooks`."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self
from uuid import UUID

import asyncpg
import httpx
from pydantic import AfterValidator, BaseModel, Field

from services.gateway.schemas import InputModel, Text

_MAX_URL_CHARS = 2048
_URL = "https://example.com/hooks/polyplane"


class WebhookEvent(StrEnum):
    """What a webhook can be told; the names are part of the public API."""

    DOCUMENT_READY = "document.ready"
    DOCUMENT_FAILED = "document.failed"
    DOCUMENT_DELETED = "document.deleted"
    JOB_FINISHED = "job.finished"


def _address(value: str) -> str:
    try:
        url = httpx.URL(value)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ValueError("not a URL") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("the URL begins with https:// or http:// and names a host")
    if url.userinfo or "#" in value:
        raise ValueError("the URL has no user name, no password and no fragment")
    return value


class WebhookInput(InputModel):
    """A webhook to be made."""

    url: Annotated[Text, Field(max_length=_MAX_URL_CHARS), AfterValidator(_address)] = Field(
        description="Where events are sent, by POST. Its host must be on the public internet.",
        examples=[_URL],
        json_schema_extra={"format": "uri"},
    )
    events: Annotated[list[WebhookEvent], Field(min_length=1, max_length=len(WebhookEvent))] = (
        Field(description="What is sent.", examples=[["document.ready", "document.failed"]])
    )


class Webhook(BaseModel):
    """A webhook without its secret, and how its deliveries go."""

    id: UUID
    url: str = Field(examples=[_URL])
    events: list[WebhookEvent] = Field(examples=[["document.ready", "document.failed"]])
    status: Literal["active", "failing", "paused"] = Field(
        description="`failing`: the last attempt failed and is repeated. `paused`: nothing is sent "
        "any more until a test succeeds.",
        examples=["active"],
    )
    waiting: int = Field(description="Events that are still to be delivered.", examples=[0])
    last_attempt_at: datetime | None
    last_status: int | None = Field(
        description="The HTTP status that the last attempt was answered with.", examples=[204]
    )
    last_error: str | None = Field(
        description="Why the last attempt failed.", examples=["no answer within 10 s"]
    )
    created_at: datetime

    @classmethod
    def of(cls, row: asyncpg.Record) -> Self:
        """Return the public form of a row."""
        fields = {name: row[name] for name in cls.model_fields if name != "status"}
        return cls(status=_status(row), **fields)


def _status(row: asyncpg.Record) -> Literal["active", "failing", "paused"]:
    if row["paused_at"] is not None:
        return "paused"
    return "failing" if row["failures"] else "active"


class NewWebhook(Webhook):
    """A webhook that was just made."""

    secret: str = Field(
        description="Checks the signatures (Standard Webhooks); shown this once.",
        examples=["whsec_<44 secret characters>"],
    )


class TestAnswer(BaseModel):
    """A `ping` that is on its way."""

    delivery_id: UUID = Field(description="The `webhook-id` that it arrives with.")
