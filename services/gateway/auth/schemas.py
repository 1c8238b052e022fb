"""Bodies and answers of `/auth`."""

import re
from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, SecretStr, StringConstraints

from planes.shared.domain import Role
from services.gateway.auth.models import Profile, SessionSummary, Tokens
from services.gateway.schemas import InputModel, Text, is_unicode

# The HTML standard's valid e-mail address (4.10.5.1.5), within the lengths of RFC 5321.
_PATTERN = (
    r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}"
    r"@[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$"
)
_EMAIL = re.compile(rf"(?=.{{3,254}}\Z){_PATTERN}")
# Controls; soft hyphen and what has no width; what turns the direction of text (UAX 9) or breaks
# lines; fillers and tags, which nobody sees. A name must not look like another one.
_UNSEEN = (
    r"\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e"
    r"\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb"
    "\U000e0000-\U000e0fff"
)
_HAS_UNSEEN = re.compile(rf"[{_UNSEEN}]")
_MAX_NAME = 200


def is_email(value: str) -> bool:
    """Tell whether a text is an e-mail address."""
    return _EMAIL.fullmatch(value) is not None


def is_shown_name(value: str) -> bool:
    """Tell whether a text can stand as somebody's name."""
    return 0 < len(value.strip()) <= _MAX_NAME and _is_shown(value)


def _is_shown(value: str) -> bool:
    return is_unicode(value) and _HAS_UNSEEN.search(value) is None


def _check_email(value: str) -> str:
    if not is_email(value):
        raise ValueError("not an e-mail address")
    return value


def _check_shown(value: str) -> str:
    if not _is_shown(value):
        raise ValueError(
            "characters that nobody sees, or that turn the direction of text, are not allowed"
        )
    return value


def _check_secret(value: SecretStr) -> SecretStr:
    if not is_unicode(value.get_secret_value()):
        raise ValueError("half of a surrogate pair is not a character")
    return value


Email = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=254),
    AfterValidator(_check_email),
    Field(examples=["ada@example.com"], json_schema_extra={"pattern": _PATTERN}),
]
ShownName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=_MAX_NAME),
    AfterValidator(_check_shown),
    Field(json_schema_extra={"pattern": rf"^[^{_UNSEEN}]*[^\s{_UNSEEN}][^{_UNSEEN}]*$"}),
]
Secret = Annotated[SecretStr, AfterValidator(_check_secret)]
Password = Annotated[Secret, Field(min_length=1, max_length=1024)]
GivenEmail = Annotated[Text, Field(max_length=254)]
NewPassword = Annotated[
    Secret,
    Field(
        max_length=1024,
        json_schema_extra={"minLength": 15},
        description="15 to 1,024 characters of any kind; not a well-known password.",
        examples=["seven lamps beneath the harbour"],
    ),
]
OneTimeToken = Annotated[
    Secret,
    Field(min_length=1, max_length=256, examples=["Zm9yZ290dGVuIHBhc3N3b3JkcyBoYXBwZW4gdG8gYWxs"]),
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
        default=None,
        description="By default named after you.",
        examples=["Acme"],
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


class ForgotPasswordRequest(InputModel):
    """Whose password is forgotten."""

    email: GivenEmail = Field(examples=["ada@example.com"])


class ResetPasswordRequest(InputModel):
    """A new password, and the token of a mail."""

    token: OneTimeToken
    new_password: NewPassword


class VerifyRequest(InputModel):
    """The token of a mail."""

    token: OneTimeToken


class OidcCodeRequest(InputModel):
    """The code that a sign-in by an OpenID provider ended with."""

    code: OneTimeToken


class MailSentOut(BaseModel):
    """What happens next; the same for every address."""

    detail: str = Field(examples=["If the address can be used, a mail is on its way."])


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
