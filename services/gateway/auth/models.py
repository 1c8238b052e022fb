"""People, their sessions and what a request may do."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum, auto
from uuid import UUID

from planes.shared.domain import Role, TenantContext
from services.gateway.limits.rates import PlanLimits
from services.gateway.limits.versions import Version

FIRST_VERSION = 1
"""Of every new user; raised whenever their tokens are to end in every tenant."""


class ApiScope(StrEnum):
    """What an API key may do, within what its maker's role allows."""

    DOCUMENTS_READ = "documents:read"
    DOCUMENTS_WRITE = "documents:write"
    SEARCH = "search"
    CHAT = "chat"
    BILLING_READ = "billing:read"
    TENANT_READ = "tenant:read"
    TENANT_WRITE = "tenant:write"


@dataclass(frozen=True, slots=True)
class Account:
    """Who makes a request: a user, acting in one tenant, in one session or by one API key.

    `session_id` is the session's id or the key's; `scopes` are the key's, None for a session, which
    may do all that the role allows. `version` is that of when the credential was checked, which was
    not before `admitted_at` (monotonic seconds).
    """

    context: TenantContext
    role: Role
    session_id: UUID
    scopes: frozenset[ApiScope] | None = None
    version: Version = field(default_factory=Version)
    admitted_at: float = field(default=0.0, compare=False)

    @property
    def is_api_key(self) -> bool:
        """Whether a program calls by an API key, not a person in a session."""
        return self.scopes is not None


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """What an access token says; `version` is of when it was minted (claim `sv`)."""

    context: TenantContext
    role: Role
    session_id: UUID
    version: Version


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a sign-in is checked against; no hash: the person signs in by a provider alone.

    `version` is the user's: a session opens only while it is still the same.
    """

    user_id: UUID
    password_hash: str | None
    is_disabled: bool
    is_verified: bool
    version: int


@dataclass(frozen=True, slots=True)
class Person:
    """A user, whatever the tenant."""

    user_id: UUID
    email: str
    display_name: str


@dataclass(frozen=True, slots=True)
class ProviderIdentity:
    """Who a person is at an OpenID provider: `subject` is unique and lasting within `issuer`."""

    issuer: str
    subject: str


@dataclass(frozen=True, slots=True)
class Profile:
    """A user as a member of one tenant."""

    context: TenantContext
    role: Role
    email: str
    display_name: str
    tenant_name: str
    plan: str


@dataclass(frozen=True, slots=True)
class NewUser:
    """A person to be; names left out are derived from the e-mail address."""

    email: str
    password: str
    display_name: str | None = None
    tenant_name: str | None = None


@dataclass(frozen=True, slots=True)
class NewAccount:
    """Rows for a user who owns a new tenant; no hash: who signs in by a provider alone."""

    profile: Profile
    email_key: str
    password_hash: str | None
    is_verified: bool = False


@dataclass(frozen=True, slots=True)
class NewSession:
    """Rows for a session: the family of refresh tokens that starts with `token_hash`."""

    session_id: UUID
    context: TenantContext
    user_agent: str
    token_hash: bytes


@dataclass(frozen=True, slots=True)
class SessionState:
    """A session as PostgreSQL knows it, where its user is still a member of its tenant."""

    claims: AccessClaims
    is_alive: bool
    limits: PlanLimits


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """A session as its user sees it."""

    id: UUID
    created_at: datetime
    last_used_at: datetime
    user_agent: str


class Rotation(Enum):
    """What became of a refresh token that was presented."""

    ROTATED = auto()
    INVALID = auto()
    REUSED = auto()


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a client gets to act as its user; `refresh_token` is shown once and stored hashed."""

    access_token: str
    refresh_token: str
    expires_in_s: int


def email_key(email: str) -> str:
    """Return the form in which an e-mail address is unique."""
    return email.strip().casefold()
