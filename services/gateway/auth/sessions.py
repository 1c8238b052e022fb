"""Sessions: opened at a sign-in, kept by rotating refresh tokens, ended once and for all."""

from collections.abc import Callable, Collection
from uuid import UUID

import structlog

from planes.shared.domain import TenantContext
from planes.shared.errors import NotFound, Unauthenticated
from services.gateway.auth.models import (
    Account,
    NewSession,
    Rotation,
    SessionSummary,
    Tokens,
)
from services.gateway.auth.session_repository import SessionRepository
from services.gateway.auth.tokens import AccessTokens, RefreshTokens
from services.gateway.limits.gate import SessionGate

_MAX_USER_AGENT = 300
_log = structlog.get_logger(__name__)


class Sessions:
    """The life of sessions. PostgreSQL is told first, then Redis."""

    def __init__(
        self,
        repository: SessionRepository,
        gate: SessionGate,
        access: AccessTokens,
        refresh: RefreshTokens,
        new_id: Callable[[], UUID],
    ) -> None:
        """Store the parts."""
        self._repository = repository
        self._gate = gate
        self._access = access
        self._refresh = refresh
        self._new_id = new_id

    def draft(self, context: TenantContext, user_agent: str) -> tuple[NewSession, str]:
        """Return a session that is not stored yet, and its first refresh token."""
        token = self._refresh.first()
        shown = "".join(each for each in user_agent if each.isprintable())[:_MAX_USER_AGENT]
        session = NewSession(self._new_id(), context, shown, self._refresh.stored(token))
        return session, token

    async def open(self, context: TenantContext, user_agent: str, *, version: int) -> Tokens:
        """Open a session of a member in a tenant, while the user's version is still `version`.

        Raises:
            Unauthenticated: What the user was recognised by has ended meanwhile.
            NotFound: The user is no member of that tenant any more.
        """
        session, token = self.draft(context, user_agent)
        await self._repository.open(session, version=version)
        return await self.tokens(session, token)

    async def tokens(self, session: NewSession, refresh_token: str) -> Tokens:
        """Return the tokens of a session that is stored."""
        return await self._tokens(session.context.user_id, session.session_id, refresh_token)

    async def rotate(self, refresh_token: str) -> Tokens:
        """Exchange a refresh token for its successor and a new access token.

        Repeating it within ten seconds gives the same successor, unless that one was used. Any
        later repeat means that two parties hold the token: the session ends, access tokens too.

        Raises:
            Unauthenticated: Unknown, expired or used before, or its session has ended.
        """
        token_hash = self._refresh.stored(refresh_token)
        user_id = await self._repository.owner(token_hash)
        if user_id is None:
            raise _invalid()
        successor = self._refresh.successor(refresh_token)
        outcome, session_id = await self._repository.rotate(
            user_id, token_hash=token_hash, successor_hash=self._refresh.stored(successor)
        )
        if outcome is Rotation.REUSED and session_id is not None:
            _log.warning("refresh token reused", session_id=str(session_id))
            await self._gate.revoke(user_id, [session_id])
        if outcome is not Rotation.ROTATED or session_id is None:
            raise _invalid()
        return await self._tokens(user_id, session_id, successor)

    async def end(self, account: Account, refresh_token: str | None) -> None:
        """End the caller's session, and that of the refresh token where it is another of theirs."""
        user_id = account.context.user_id
        ended = {account.session_id}
        if refresh_token is not None:
            token_hash = self._refresh.stored(refresh_token)
            other = await self._repository.session_of(user_id, token_hash)
            ended |= {other} if other else set()
        for session_id in ended:
            await self._repository.end(user_id, session_id, reason="logout")
        await self._gate.revoke(user_id, ended)

    async def end_one(self, account: Account, session_id: UUID) -> None:
        """End one of the caller's sessions.

        Raises:
            NotFound: The caller has no such session.
        """
        user_id = account.context.user_id
        if not await self._repository.end(user_id, session_id, reason="ended-by-user"):
            raise NotFound("There is no such session.")
        await self._gate.revoke(user_id, [session_id])

    async def revoked(
        self,
        user_id: UUID,
        session_ids: Collection[UUID],
        *,
        version: int,
        tenant_id: UUID | None = None,
    ) -> None:
        """Make known that sessions were ended and tokens below a version are void.

        The version is the user's, or with a `tenant_id` that of the membership there.
        """
        await self._gate.revoke(user_id, session_ids, version=version, tenant_id=tenant_id)

    async def alive(
        self, account: Account, *, before: UUID | None, limit: int
    ) -> list[SessionSummary]:
        """Return the caller's newest sessions that are alive, opened before session `before`."""
        return await self._repository.alive(account.context.user_id, before=before, limit=limit)

    async def forget_expired(self) -> None:
        """Delete refresh tokens that nobody can use any more; to be called now and then."""
        await self._repository.forget_expired()

    async def _tokens(self, user_id: UUID, session_id: UUID, refresh_token: str) -> Tokens:
        state = await self._repository.state(user_id, session_id)
        if state is None or not state.is_alive:
            raise _invalid()
        access_token = self._access.mint(state.claims)
        return Tokens(access_token, refresh_token, self._access.lifetime_s)


def _invalid() -> Unauthenticated:
    return Unauthenticated("The refresh token is not valid. Sign in again.")
