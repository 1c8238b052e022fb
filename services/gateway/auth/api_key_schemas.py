"""Bodies and answers of `/auth/api-keys`."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field

from services.gateway.auth.api_key_repository import ApiKeySummary
from services.gateway.auth.models import ApiScope
from services.gateway.auth.schemas import ShownName
from services.gateway.schemas import InputModel

_PREFIX = "pp_k3v9x2ab"


class ApiKeyRequest(InputModel):
    """A key to be made."""

    name: ShownName = Field(description="What the key is for.", examples=["nightly import"])
    scopes: Annotated[list[ApiScope], Field(min_length=1, max_length=50)] = Field(
        description="All that the key may do; never more than its maker's role allows.",
        examples=[["documents:read", "documents:write"]],
    )
    expires_at: AwareDatetime | None = Field(
        default=None, description="When it stops working; null: when it is ended."
    )


class ApiKeyOut(BaseModel):
    """A key without its secret."""

    id: UUID
    name: str = Field(examples=["nightly import"])
    prefix: str = Field(description="How the key begins.", examples=[_PREFIX])
    scopes: list[ApiScope] = Field(examples=[["documents:read", "documents:write"]])
    created_at: datetime
    last_used_at: datetime | None = Field(description="To the minute; null: never used.")
    expires_at: datetime | None

    @classmethod
    def of(cls, key: ApiKeySummary) -> Self:
        """Return how a key is shown."""
        return cls.model_validate(key, from_attributes=True)


class NewApiKeyOut(ApiKeyOut):
    """A key that was just made."""

    key: str = Field(
        description="The key itself, shown this once: `Authorization: Bearer <key>`.",
        examples=[_PREFIX + "_<43 secret characters>"],
    )
