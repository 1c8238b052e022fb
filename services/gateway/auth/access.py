"""Whether a request may pass: its token or key, its session and its user's limits."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

from planes.shared.errors import Unauthenticated
from services.gateway.auth.api_keys import MARK, PresentedKeys
from services.gateway.auth.models import AccessClaims, Account, ApiScope, SessionState
from services.gateway.auth.session_repository import SessionRepository
from services.gateway.auth.tokens import AccessTokens
from services.gateway.limits.gate import SessionGate, SessionKey, Standing, Verdict
from services.gateway.limits.rates import EndpointClass, LocalRates, Rates
from services.gateway.limits.scripts import RedisUnavailable

_UNSURE = (Standing.UNKNOWN,)
_UNSURE_OF_KEYS = (Standing.UNKNOWN, Standing.OUTDATED)
_Read: TypeAlias = Callable[[], Awaitable[SessionState]]


class AccessControl:
    """Admits requests by one call to Redis; PostgreSQL answers what Redis does not know."""

    def __init__(
        self,
        tokens: AccessTokens,
        keys: PresentedKeys,
        gate: SessionGate,
        sessions: SessionRepository,
        local_rates: LocalRates,
    ) -> None:
        """Store the parts; `local_rates` count while Redis does not answer."""
        self._tokens = tokens
        self._keys = keys
        self._gate = gate
        self._sessions = sessions
        self._local_rates = local_rates

    async def admit(self, credential: str, endpoint: EndpointClass) -> tuple[Account, Rates]:
        """Return who makes a request, and how the request was counted.

        The rates may refuse the request: `Rates.check` raises then.

        Args:
            credential: An access token or an API key.
            endpoint: The class of the call.

        Raises:
            Unauthenticated: The credential is not valid, or its session has ended.
            TooManyRequests: The caller's address has sent too many keys that were never seen here.
            Unavailable: Neither Redis nor PostgreSQL answers.
        """
        began_at = time.monotonic()
        if credential.startswith(MARK):
            return await self._admit_key(credential, endpoint, began_at)
        claims = self._tokens.verify(credential)
        claims, rates = await self._judge(claims, endpoint, partial(self._current, claims))
        return _account(claims, began_at), rates

    async def _admit_key(
        self, key: str, endpoint: EndpointClass, began_at: float
    ) -> tuple[Account, Rates]:
        """As `admit`; a key goes on when its maker's version rises, with the role of now."""
        state = await self._keys.find(key)

        async def read() -> SessionState:
            return (await self._keys.read(key)).session

        known = state.session.claims
        claims, rates = await self._judge(known, endpoint, read, outlives_versions=True)
        return _account(claims, began_at, state.scopes), rates

    async def _judge(
        self,
        claims: AccessClaims,
        endpoint: EndpointClass,
        read: _Read,
        *,
        outlives_versions: bool = False,
    ) -> tuple[AccessClaims, Rates]:
        """Ask Redis, and PostgreSQL by `read` where Redis is not sure or does not answer."""
        unsure = _UNSURE_OF_KEYS if outlives_versions else _UNSURE
        try:
            verdict = await self._check(claims, endpoint)
            if verdict.standing in unsure:
                state = await read()
                claims = state.claims
                await self._gate.remember(_key(claims), state.limits, history=verdict.history)
                verdict = await self._check(claims, endpoint)
                if verdict.standing in unsure:  # lost or changed again in between
                    state = await read()
                    return state.claims, self._by_process(state, endpoint)
        except RedisUnavailable:
            state = await read()
            return state.claims, self._by_process(state, endpoint)
        if verdict.rates is None:
            raise ended()
        self._local_rates.note(claims.context.user_id, verdict.rates)
        return claims, verdict.rates

    async def _check(self, claims: AccessClaims, endpoint: EndpointClass) -> Verdict:
        user_id = claims.context.user_id
        backlogs = self._local_rates.backlogs(user_id, endpoint.policies)
        return await self._gate.check(_key(claims), endpoint, backlogs)

    def _by_process(self, state: SessionState, endpoint: EndpointClass) -> Rates:
        limits = [(policy, state.limits.of(policy)) for policy in endpoint.policies]
        return self._local_rates.take(state.claims.context.user_id, limits)

    async def _current(self, claims: AccessClaims) -> SessionState:
        state = await self._sessions.state(claims.context.user_id, claims.session_id)
        if state is None or not state.is_alive:
            await self._gate.revoke(claims.context.user_id, [claims.session_id])
            raise ended()
        if state.claims != claims:  # told to Redis, so that repeating it costs no query
            context, version = claims.context, state.claims.version
            await self._gate.revoke(context.user_id, [], version=version.user)
            tenant_id = context.tenant_id
            await self._gate.revoke(
                context.user_id, [], version=version.membership, tenant_id=tenant_id
            )
            raise ended()
        return state


def ended() -> Unauthenticated:
    """Return the answer to a credential that was valid once."""
    return Unauthenticated("The session has ended or its rights have changed. Sign in again.")


def _key(claims: AccessClaims) -> SessionKey:
    context = claims.context
    return SessionKey(context.user_id, context.tenant_id, claims.session_id, claims.version)


def _account(
    claims: AccessClaims, admitted_at: float, scopes: frozenset[ApiScope] | None = None
) -> Account:
    return Account(
        claims.context, claims.role, claims.session_id, scopes, claims.version, admitted_at
    )
