"""Answers under way end when the right to them does: within a second, on every gateway.

Revocations are published by Redis, which may lose any of them. So PostgreSQL is asked about the
running answers whenever some may have been missed, and twice a second while Redis is not heard. A
Redis that comes back may lack what was written last, and let in whom it should not: for two minutes
every answer is looked at.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol
from uuid import UUID

import structlog

from planes.shared.errors import PlatformError, Unavailable
from services.gateway.auth.access import ended
from services.gateway.auth.models import Account
from services.gateway.auth.session_repository import Standings
from services.gateway.limits.feed import RevocationFeed
from services.gateway.limits.revocations import Revocation

_LOOK_S = 0.5
_REMEMBERED_S = 120.0
_log = structlog.get_logger(__name__)


class Abortable(Protocol):
    """An answer, or another stream of events."""

    def abort(self, problem: PlatformError) -> None:
        """End now, and tell the reader why."""
        ...


class StreamGuard:
    """Knows what runs for whom, and aborts it where its session or API key has ended."""

    def __init__(self, feed: RevocationFeed, standings: Standings) -> None:
        """Store where revocations are heard, and how PostgreSQL is asked."""
        self._feed = feed
        self._standings = standings
        self._running: dict[Abortable, Account] = {}
        self._doubtful: set[Abortable] = set()
        self._revoked_at: OrderedDict[UUID, float] = OrderedDict()
        self._heard_from: float | None = None
        self._missed_at = float("-inf")
        self._wake = asyncio.Event()

    def watch(self, answer: Abortable, account: Account) -> None:
        """Abort `answer` as soon as its caller may not have it, until `leave`."""
        self._running[answer] = account
        has_missed = time.monotonic() - self._missed_at < _REMEMBERED_S
        heard_from = float("inf") if self._heard_from is None else self._heard_from
        heard_at = self._revoked_at.get(account.context.user_id, heard_from)
        if has_missed or max(heard_at, heard_from) >= account.admitted_at:  # perhaps since then
            self._doubt([answer])

    def leave(self, answer: Abortable) -> None:
        """Forget an answer that has ended."""
        self._running.pop(answer, None)
        self._doubtful.discard(answer)

    async def listen(self) -> None:
        """Act on revocations until cancelled."""
        async for revocation in self._feed.revocations():
            if revocation is None:
                now = time.monotonic()
                if self._heard_from is None:
                    self._heard_from = now
                else:
                    self._missed_at = now
                self._doubt(self._running)
            else:
                self._act(revocation)

    async def look(self) -> None:
        """Ask PostgreSQL about doubtful answers until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._wake.wait()
            self._wake.clear()
            if not self._feed.is_alive:
                self._doubtful |= self._running.keys()
            try:
                await self._check(list(self._doubtful))
            except Unavailable as error:  # they stay doubtful
                _log.warning("open answers are not checked", reason=error.detail)
                await asyncio.sleep(_LOOK_S)

    def _act(self, revocation: Revocation) -> None:
        """Abort what was named; other answers of the user may be of an older version."""
        user_id = revocation.user_id
        self._revoked_at[user_id] = time.monotonic()
        self._revoked_at.move_to_end(user_id)
        self._forget_old()
        own = [each for each, who in self._running.items() if who.context.user_id == user_id]
        for answer in own:
            if self._running[answer].session_id in revocation.session_ids:
                answer.abort(ended())
        if revocation.version:
            self._doubt(own)

    async def _check(self, answers: list[Abortable]) -> None:
        """Abort those answers whose callers may not have them any more.

        Raises:
            Unavailable: PostgreSQL does not answer.
        """
        asked = {answer: self._running[answer] for answer in answers}
        if not asked:
            return
        found = await self._standings({who.session_id for who in asked.values()})
        for answer, who in asked.items():
            self._doubtful.discard(answer)
            standing = found.get(who.session_id)
            # a key goes on when its maker's version or role changes: every role may ask
            if standing is None or not (who.is_api_key or standing == (who.version, who.role)):
                answer.abort(ended())

    def _doubt(self, answers: Iterable[Abortable]) -> None:
        self._doubtful.update(answers)
        self._wake.set()

    def _forget_old(self) -> None:
        oldest = time.monotonic() - _REMEMBERED_S
        while self._revoked_at and next(iter(self._revoked_at.values())) < oldest:
            self._revoked_at.popitem(last=False)
