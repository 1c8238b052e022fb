"""Bodies and answers about one's own account and tenants."""

from uuid import UUID

from pydantic import BaseModel, Field

from services.gateway.auth.schemas import GivenEmail, Password
from services.gateway.schemas import InputModel
from services.gateway.tenants.schemas import TenantDeletedOut


class SwitchRequest(InputModel):
    """The tenant to act in."""

    tenant_id: UUID


class AccountDeletionRequest(InputModel):
    """What shows that the caller means it."""

    password: Password | None = Field(
        default=None, description="The current password, of accounts that have one."
    )
    confirm_email: GivenEmail | None = Field(
        default=None,
        description="The own address, of accounts that sign in by a provider alone.",
        examples=["ada@example.com"],
    )


class AccountDeletedOut(BaseModel):
    """An account that has ended."""

    user_id: UUID
    tenants: list[TenantDeletedOut] = Field(
        description="The tenants that nobody else belonged to; they are removed too."
    )
