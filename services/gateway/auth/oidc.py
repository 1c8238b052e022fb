"""Signing in by an OpenID provider: authorization code with PKCE, after RFC 9700."""

import hmac
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from planes.shared.errors import Conflict, Forbidden, Unauthenticated
from services.gateway.auth.drafts import Drafts
from services.gateway.auth.errors import EmailNotVerified, InvalidToken
from services.gateway.auth.id_tokens import IdTokens
from services.gateway.auth.models import (
    FIRST_VERSION,
    Credentials,
    ProviderIdentity,
    Tokens,
    email_key,
)
from services.gateway.auth.oidc_attempts import Attempt, Attempts, not_begun
from services.gateway.auth.oidc_provider import OidcClient, OidcProvider, untrusted
from services.gateway.auth.oidc_repository import OidcRepository
from services.gateway.auth.recovery import RecoveryService
from services.gateway.auth.repository import UserRepository
from services.gateway.auth.schemas import is_email, is_shown_name
from services.gateway.auth.service import AuthService, Client
from services.gateway.mail.outbox import MailKind


@dataclass(frozen=True, slots=True)
class Callback:
    """What a browser brings back from the provider."""

    code: str | None
    state: str | None
    issuer: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Claims:
    """What a provider says of a person, as far as it is used."""

    identity: ProviderIdentity
    email: str | None
    is_email_verified: bool
    name: str | None


@dataclass(frozen=True, slots=True)
class OidcParts:
    """What signing in by a provider takes."""

    client: OidcClient
    provider: OidcProvider
    repository: OidcRepository
    users: UserRepository
    drafts: Drafts
    recovery: RecoveryService
    auth: AuthService
    verifies_email: bool


@dataclass(frozen=True, slots=True)
class OidcSignIn:
    """What the routes use.

    Attributes:
        service: Recognises people.
        attempts: Seals what a browser keeps meanwhile.
        provider: Opened and closed with the application.
        return_url: The operator's page that ends a sign-in; None: the callback answers tokens.
    """

    service: "OidcService"
    attempts: Attempts
    provider: OidcProvider
    return_url: str | None


class OidcService:
    """Sends people to the provider, and recognises who comes back."""

    def __init__(self, parts: OidcParts, *, redirect_uri: str) -> None:
        """Store the parts, and where the provider sends people back to."""
        self._parts = parts
        self._id_tokens = IdTokens(parts.client, parts.provider)
        self._redirect_uri = redirect_uri

    @property
    def is_https(self) -> bool:
        """Whether browsers reach the gateway by https."""
        return self._redirect_uri.startswith("https://")

    async def authorization_url(self, attempt: Attempt) -> str:
        """Return where a person signs in.

        Raises:
            Unavailable: The provider does not answer.
        """
        metadata = await self._parts.provider.metadata()
        query = {
            "response_type": "code",
            "client_id": self._parts.client.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": " ".join(self._parts.client.scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge(),
            "code_challenge_method": "S256",
        }
        separator = "&" if "?" in metadata.authorization_endpoint else "?"
        return f"{metadata.authorization_endpoint}{separator}{urlencode(query)}"

    async def recognise(self, callback: Callback, attempt: Attempt) -> Credentials:
        """Return the user who came back, whose account is made or linked where it is new.

        Raises:
            BadRequest: It is not the answer to this attempt.
            Unauthenticated: The provider refused, or its answer cannot be trusted.
            Forbidden: The account is disabled, has no address, or one that nobody confirmed.
            Conflict: The address has an account that this identity may not open.
            Unavailable: The provider does not answer.
        """
        code = await self._check(callback, attempt)
        claims = await self._claims(code, attempt)
        found = await self._parts.repository.find(claims.identity)
        if found is None:
            found = await self._welcome(claims)
        if found.is_disabled:
            raise Unauthenticated("This account is disabled.")
        await self._parts.auth.check_verified(found)
        return found

    async def enter(self, found: Credentials, wanted: UUID | None, client: Client) -> Tokens:
        """Open a session of a user who was recognised."""
        return await self._parts.auth.enter(found.user_id, wanted, client, version=found.version)

    async def code(self, found: Credentials, wanted: UUID | None) -> str:
        """Return a code that opens that session within a minute, once."""
        return await self._parts.repository.mint_code(found, wanted)

    async def redeem(self, code: str, client: Client) -> Tokens:
        """Open the session of a code.

        Raises:
            InvalidToken: Unknown, used or expired.
        """
        holder = await self._parts.repository.use_code(code)
        if holder is None:
            raise InvalidToken
        return await self._parts.auth.enter(
            holder.user_id, holder.enters, client, version=holder.version
        )

    async def _check(self, callback: Callback, attempt: Attempt) -> str:
        """Return the code of an answer to this attempt, by this provider (RFC 9207)."""
        state = callback.state or ""
        if not hmac.compare_digest(state.encode(), attempt.state.encode()):
            raise not_begun()
        metadata = await self._parts.provider.metadata()
        is_named = metadata.authorization_response_iss_parameter_supported
        if (is_named or callback.issuer) and callback.issuer != metadata.issuer:
            raise untrusted("the answer is another issuer's")
        if callback.error is not None or callback.code is None:
            raise Unauthenticated("The provider did not let you in.")
        return callback.code

    async def _claims(self, code: str, attempt: Attempt) -> Claims:
        provider = self._parts.provider
        answer = await provider.exchange(
            code, verifier=attempt.verifier, redirect_uri=self._redirect_uri
        )
        access_token = str(answer.get("access_token", ""))
        claims = await self._id_tokens.verify(
            answer.get("id_token"), nonce=attempt.nonce, access_token=access_token
        )
        if "email" not in claims and access_token:
            more = await provider.userinfo(access_token)
            if more.get("sub") == claims["sub"]:  # Core 5.3.2: else it must not be used
                claims |= {name: more.get(name) for name in ("email", "email_verified")}
                claims.setdefault("name", more.get("name"))
        return _to_claims(claims)

    async def _welcome(self, claims: Claims) -> Credentials:
        """Link a new identity to the account of its address, or make an account.

        Linking takes two proofs: the provider's that the address is this person's, and ours that
        the account's owner has it. With one alone, who registered an address of somebody else, here
        or there, would get into that person's account.
        """
        if claims.email is None:
            raise Forbidden("The provider tells no e-mail address, which an account needs.")
        users = self._parts.users
        found = await users.credentials_of_email(email_key(claims.email))
        if found is None:
            account = self._parts.drafts.account_without_password(
                claims.email, claims.name, is_verified=claims.is_email_verified
            )
            await users.create(account, identity=claims.identity)
            user_id = account.profile.context.user_id
            return Credentials(user_id, None, False, claims.is_email_verified, FIRST_VERSION)
        if not (claims.is_email_verified and found.is_verified):
            await self._refuse_link(claims.email)
        if not found.is_disabled:
            await self._parts.repository.link(claims.identity, found.user_id)
        return found

    async def _refuse_link(self, email: str) -> None:
        if self._parts.verifies_email:  # as for a new account with this address
            await self._parts.recovery.post(MailKind.ACCOUNT_EXISTS, email)
            raise EmailNotVerified
        raise Conflict(
            "An account with this e-mail address exists, and nobody has confirmed that both are "
            "yours. Sign in to it by its password."
        )


def _to_claims(claims: dict[str, Any]) -> Claims:
    email, name = claims.get("email"), claims.get("name")
    return Claims(
        identity=ProviderIdentity(claims["iss"], claims["sub"]),
        email=email if isinstance(email, str) and is_email(email) else None,
        is_email_verified=claims.get("email_verified") is True,
        name=name.strip() if isinstance(name, str) and is_shown_name(name) else None,
    )
