"""Bodies and answers of `/tenant`."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field

from planes.shared.domain import Role
from services.gateway.auth.schemas import Email, Secret, ShownName
from services.gateway.billing.schemas import Quotas
from services.gateway.schemas import InputModel, Text
from services.gateway.tenants.models import Invitation, Member, Tenant, TenantDeletion


class TenantChange(InputModel):
    """What an admin may change of a tenant."""

    name: Annotated[ShownName, Field(examples=["Acme"])]


class TenantDeletionRequest(InputModel):
    """What shows that the caller means this tenant."""

    confirm_name: Annotated[Text, Field(max_length=200)] = Field(
        description="The tenant's present name.", examples=["Acme"]
    )


class TenantAnswer(BaseModel):
    """A tenant, with what its plan leaves."""

    id: UUID
    name: str = Field(examples=["Acme"])
    plan: str = Field(examples=["free"])
    created_at: datetime
    member_count: int = Field(examples=[3])
    quotas: Quotas

    @classmethod
    def of(cls, tenant: Tenant, quotas: Quotas) -> Self:
        """Return the public form."""
        return cls(
            id=tenant.id,
            name=tenant.name,
            plan=tenant.plan,
            created_at=tenant.created_at,
            member_count=tenant.member_count,
            quotas=quotas,
        )


class MemberOut(BaseModel):
    """A member of the tenant."""

    id: UUID
    display_name: str = Field(examples=["Ada Lovelace"])
    email: str | None = Field(
        description="Null for callers below admin.", examples=["ada@example.com"]
    )
    role: Role
    joined_at: datetime

    @classmethod
    def of(cls, member: Member, *, with_email: bool) -> Self:
        """Return the public form."""
        return cls(
            id=member.user_id,
            display_name=member.display_name,
            email=member.email if with_email else None,
            role=member.role,
            joined_at=member.joined_at,
        )


class RoleChange(InputModel):
    """The role that a member shall have."""

    role: Annotated[Role, Field(examples=["member"])]


class InvitationRequest(InputModel):
    """Whom to invite."""

    email: Email
    role: Annotated[Role, Field(description="At most your own.", examples=["member"])]


class InvitationOut(BaseModel):
    """An open invitation."""

    id: UUID
    email: str = Field(examples=["grace@example.com"])
    role: Role
    invited_by: UUID
    created_at: datetime
    expires_at: datetime

    @classmethod
    def of(cls, invitation: Invitation) -> Self:
        """Return the public form."""
        return cls(
            id=invitation.id,
            email=invitation.email,
            role=invitation.role,
            invited_by=invitation.invited_by,
            created_at=invitation.created_at,
            expires_at=invitation.expires_at,
        )


class NewInvitationOut(InvitationOut):
    """An invitation that was just made."""

    token: str | None = Field(
        default=None,
        description="To be handed to the invited person; shown once. Null where it is mailed, and "
        "where an `Idempotency-Key` repeats the request.",
    )


class AcceptRequest(InputModel):
    """An invitation's token."""

    token: Annotated[Secret, Field(min_length=1, max_length=256)]


class JoinedTenant(BaseModel):
    """The tenant that was joined."""

    id: UUID
    name: str = Field(examples=["Acme"])


class AcceptedOut(BaseModel):
    """A new membership; `POST /auth/switch` enters the tenant."""

    tenant: JoinedTenant
    role: Role


class Actor(BaseModel):
    """Who did something."""

    kind: Literal["user", "api-key", "operator", "system"]
    id: UUID | None = Field(description="The user; null for operator and system.")
    display_name: str | None = Field(
        description="Null where the account is deleted.", examples=["Ada Lovelace"]
    )
    api_key_id: UUID | None


class AuditEntry(BaseModel):
    """One act of weight."""

    id: UUID
    action: str = Field(examples=["member.role-changed"])
    actor: Actor
    subject: str = Field(
        description="What it was done to.", examples=["user:01a1fd26-1267-7285-bf84-61d8d204dc7a"]
    )
    details: dict[str, Any] = Field(examples=[{"from": "viewer", "to": "member"}])
    address: str = Field(description="Where the request came from.", examples=["203.0.113.7"])
    trace_id: str = Field(examples=["4bf92f3577b34da6a3ce929d0e0e4736"])
    created_at: datetime


class TenantDeletedOut(BaseModel):
    """A tenant whose removal has begun."""

    tenant_id: UUID
    receipt_id: UUID
    receipt: str = Field(
        description="Shown once. `GET /tenant/receipts/{receipt}` tells what was removed.",
        examples=["3yq0T0Wl0bq6h3i0kq3m1m6bq9m1m6bq9m1m6bq9m1m"],
    )

    @classmethod
    def of(cls, deletion: TenantDeletion) -> Self:
        """Return the public form."""
        return cls(
            tenant_id=deletion.tenant_id,
            receipt_id=deletion.receipt_id,
            receipt=deletion.receipt,
        )


class RemovedOut(BaseModel):
    """What was removed so far, by store."""

    postgresql: dict[str, int] = Field(
        description="Rows, by table.", examples=[{"documents": 12, "conversations": 4}]
    )
    chunks: int
    files: int
    cache_entries: int
    chat_messages: int
    redis_keys: int


class TenantReceipt(BaseModel):
    """How far the removal of a tenant has come."""

    receipt_id: UUID
    tenant_id: UUID
    status: Literal["deleting", "complete"]
    requested_at: datetime
    completed_at: datetime | None
    removed: RemovedOut
