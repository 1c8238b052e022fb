"""Whether a request may pass: its token, its session and its user's limits."""

from planes.shared.errors import Unauthenticated
from services.gateway.auth.models import AccessClaims, Account, SessionState
from services.gateway.auth.session_repository import SessionRepository
from services.gateway.auth.tokens import AccessTokens
from services.gateway.limits.gate import SessionGate, SessionKey, Standing, Verdict
from services.gateway.limits.rates import EndpointClass, LocalRates, Rate
from services.gateway.limits.scripts import RedisUnavailable


class AccessControl:
    """Admits requests by one call to Redis; PostgreSQL answers what Redis does not know."""

    def __init__(
        self,
        tokens: AccessTokens,
        gate: SessionGate,
        sessions: SessionRepository,
        local_rates: LocalRates,
    ) -> None:
        """Store the parts; `local_rates` count while Redis does not answer."""
        self._tokens = tokens
        self._gate = gate
        self._sessions = sessions
        self._local_rates = local_rates

    async def admit(self, token: str, endpoint: EndpointClass) -> tuple[Account, Rate]:
        """Return who makes a request, and how the request was counted.

        The rate may refuse the request: `Rate.check` raises then.

        Raises:
            Unauthenticated: The token is not valid, or its session has ended.
            Unavailable: Neither Redis nor PostgreSQL answers.
        """
        claims = self._tokens.verify(token)
        try:
            rate = await self._by_gate(claims, endpoint)
        except RedisUnavailable:
            rate = self._by_process(await self._current(claims), endpoint)
        return Account(claims.context, claims.role, claims.session_id), rate

    async def _by_gate(self, claims: AccessClaims, endpoint: EndpointClass) -> Rate:
        key = SessionKey(claims.context.user_id, claims.session_id, claims.version)
        verdict = await self._gate.check(key, endpoint)
        if verdict.standing is Standing.UNKNOWN:
            state = await self._current(claims)
            await self._gate.remember(key, state.limits)
            verdict = await self._gate.check(key, endpoint)
            if verdict.standing is Standing.UNKNOWN:  # forgotten already: Redis is short of memory
                return self._by_process(state, endpoint)
        return _rate(verdict)

    def _by_process(self, state: SessionState, endpoint: EndpointClass) -> Rate:
        user_id = state.claims.context.user_id
        return self._local_rates.take(user_id, state.limits.of(endpoint), endpoint)

    async def _current(self, claims: AccessClaims) -> SessionState:
        state = await self._sessions.state(claims.context.user_id, claims.session_id)
        if state is None or not state.is_alive:
            await self._gate.revoke(claims.context.user_id, [claims.session_id])
            raise _ended()
        if state.claims != claims:
            raise _ended()
        return state


def _rate(verdict: Verdict) -> Rate:
    if verdict.rate is None:
        raise _ended()
    return verdict.rate


def _ended() -> Unauthenticated:
    return Unauthenticated("The session has ended or its rights have changed. Sign in again.")
