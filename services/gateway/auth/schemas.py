"""Bodies and answers of `/auth`."""

import re
import unicodedata
from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, SecretStr, StringConstraints

from planes.shared.domain import Role
from services.gateway.auth.models import Profile, SessionSummary, Tokens
from services.gateway.schemas import InputModel

# The HTML standard's valid e-mail address (4.10.5.1.5), within the lengths of RFC 5321.
_EMAIL = re.compile(
    r"(?=.{3,254}\Z)[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}"
    r"@[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)


def _check_email(value: str) -> str:
    if _EMAIL.fullmatch(value) is None:
        raise ValueError("not an e-mail address")
    return value


def _check_shown(value: str) -> str:
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in value):
        raise ValueError("control characters are not allowed")
    return value


def _is_unicode(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _check_secret(value: SecretStr) -> SecretStr:
    if not _is_unicode(value.get_secret_value()):
        raise ValueError("half of a surrogate pair is not a character")
    return value


def _check_text(value: str) -> str:
    if "\x00" in value or not _is_unicode(value):
        raise ValueError("NUL and halves of surrogate pairs are not allowed")
    return value


Email = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=254),
    AfterValidator(_check_email),
    Field(examples=["ada@example.com"]),
]
ShownName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(_check_shown),
]
Secret = Annotated[SecretStr, AfterValidator(_check_secret)]
Password = Annotated[Secret, Field(min_length=1, max_length=1024)]
GivenEmail = Annotated[str, AfterValidator(_check_text), Field(max_length=254)]
NewPassword = Annotated[
    Secret,
    Field(
        max_length=1024,
        description="15 to 1,024 characters of any kind; not a well-known password.",
        examples=["seven lamps beneath the harbour"],
    ),
]
RefreshToken = Annotated[Secret, Field(min_length=1, max_length=256)]


class RegisterRequest(InputModel):
    """Who wants an account and a tenant of their own."""

    email: Email
    password: NewPassword
    display_name: ShownName | None = Field(
        default=None, description="By default what stands before the @.", examples=["Ada Lovelace"]
    )
    tenant_name: ShownName | None = Field(
        default=None, description="By default “<display name>'s workspace”.", examples=["Acme"]
    )


class LoginRequest(InputModel):
    """A sign-in."""

    email: GivenEmail = Field(examples=["ada@example.com"])
    password: Password
    tenant_id: UUID | None = Field(default=None, description="By default the tenant last used.")


class TokenForm(InputModel):
    """A sign-in as the password form of OAuth 2 (RFC 6749, 4.3.2)."""

    grant_type: Literal["password"] = "password"
    username: GivenEmail = Field(description="The e-mail address.")
    password: Password
    scope: str = ""
    client_id: str | None = None
    client_secret: SecretStr | None = None


class RefreshRequest(InputModel):
    """A refresh token to exchange; it can be used once."""

    refresh_token: RefreshToken


class LogoutRequest(InputModel):
    """Optionally, a refresh token whose session is to end too."""

    refresh_token: RefreshToken | None = None


class PasswordRequest(InputModel):
    """A change of password."""

    current_password: Password
    new_password: NewPassword


class TokensOut(BaseModel):
    """What to send from now on."""

    access_token: str = Field(description="For `Authorization: Bearer`.")
    refresh_token: str = Field(description="For `POST /auth/refresh`, once, within 30 days.")
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 (the name of a type)
    expires_in: int = Field(description="Seconds until the access token expires.", examples=[600])

    @classmethod
    def of(cls, tokens: Tokens) -> Self:
        """Return the public form."""
        return cls(
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            expires_in=tokens.expires_in_s,
        )


class UserOut(BaseModel):
    """A user as a member of the tenant of this session."""

    id: UUID
    email: str = Field(examples=["ada@example.com"])
    display_name: str = Field(examples=["Ada Lovelace"])
    role: Role


class TenantOut(BaseModel):
    """The tenant of this session."""

    id: UUID
    name: str = Field(examples=["Acme"])
    plan: str = Field(examples=["free"])


class ProfileOut(BaseModel):
    """Who acts, and where."""

    user: UserOut
    tenant: TenantOut

    @classmethod
    def of(cls, profile: Profile) -> Self:
        """Return the public form."""
        user = UserOut(
            id=profile.context.user_id,
            email=profile.email,
            display_name=profile.display_name,
            role=profile.role,
        )
        tenant = TenantOut(
            id=profile.context.tenant_id, name=profile.tenant_name, plan=profile.plan
        )
        return cls(user=user, tenant=tenant)


class RegisteredOut(TokensOut):
    """A new account, signed in."""

    user: UserOut
    tenant: TenantOut

    @classmethod
    def of_both(cls, profile: Profile, tokens: Tokens) -> Self:
        """Return the public form."""
        shown = ProfileOut.of(profile)
        return cls(user=shown.user, tenant=shown.tenant, **TokensOut.of(tokens).model_dump())


class SessionOut(BaseModel):
    """One place where the user is signed in."""

    id: UUID
    created_at: datetime
    last_used_at: datetime
    user_agent: str
    current: bool = Field(description="Whether this request belongs to it.")

    @classmethod
    def of(cls, session: SessionSummary, current: UUID) -> Self:
        """Return the public form."""
        return cls(
            id=session.id,
            created_at=session.created_at,
            last_used_at=session.last_used_at,
            user_agent=session.user_agent,
            current=session.id == current,
        )


class JsonWebKey(BaseModel):
    """A public Ed25519 key (RFC 8037)."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    kid: str
    use: Literal["sig"]
    alg: Literal["EdDSA"]


class JsonWebKeySet(BaseModel):
    """The keys that verify access tokens (RFC 7517)."""

    keys: list[JsonWebKey]
