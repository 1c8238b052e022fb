"""Mail that waits: stored with the act that causes it, written and sent afterwards.

A row says what a mail is about, never its text: the secret in it is made when it is sent, so that
only its hash is ever stored, and answering a request costs the same whether or not the address
belongs to anybody.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeAlias
from uuid import UUID

import structlog

from planes.shared.domain import new_id
from planes.shared.stores.postgres import Connection, Database
from services.gateway.mail.smtp import Letter, LetterRefused, MailUnavailable, SmtpServer

_LEASE = timedelta(seconds=60)  # longer than sending takes; after a crash the mail is due again
_GIVEN_UP_AFTER = timedelta(hours=24)
_LONGEST_PAUSE_S = 3600
_log = structlog.get_logger(__name__)

_CLAIM = """
UPDATE mail_outbox SET attempts = attempts + 1, due_at = now() + $1::interval
WHERE id = (SELECT id FROM mail_outbox WHERE due_at <= now()
            ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, kind, address, details, attempts, created_at, created_at < now() - $2::interval
"""


class MailKind(StrEnum):
    """What a mail is about."""

    REGISTRATION = "registration"
    VERIFY_EMAIL = "verify-email"
    RESET_PASSWORD = "reset-password"  # noqa: S105 (the name of a kind)
    ACCOUNT_EXISTS = "account-exists"
    INVITATION = "invitation"


@dataclass(frozen=True, slots=True)
class Occasion:
    """Why somebody gets a mail; `details` hold no secrets, but hashes of passwords."""

    kind: MailKind
    address: str
    details: Mapping[str, Any] = field(default_factory=dict)


Composer: TypeAlias = Callable[[Occasion], Awaitable[Letter | None]]
"""Writes the letter of an occasion, with a fresh secret; None where nobody is to be told."""


async def post(connection: Connection, occasion: Occasion) -> None:
    """Put a mail into the transaction of `connection`; it is sent once that has committed."""
    await connection.execute(
        "INSERT INTO mail_outbox (id, kind, address, details) VALUES ($1, $2, $3, $4)",
        new_id(),
        occasion.kind,
        occasion.address,
        dict(occasion.details),
    )


@dataclass(frozen=True, slots=True)
class _Claimed:
    id: UUID
    occasion: Occasion
    attempts: int
    created_at: datetime
    is_old: bool


class MailOutbox:
    """Sends what waits, at least once each; several gateways may drain one outbox."""

    def __init__(
        self, database: Database, server: SmtpServer, composers: Mapping[MailKind, Composer]
    ) -> None:
        """Store where mail waits, where it leaves, and who writes each kind."""
        self._database = database
        self._server = server
        self._composers = dict(composers)

    def add(self, kind: MailKind, composer: Composer) -> None:
        """Let another feature write its kind of mail; at the composition root."""
        self._composers[kind] = composer

    async def drain(self) -> int:
        """Send everything that is due, one after the other; return how many were dealt with."""
        count = 0
        while (claimed := await self._claim()) is not None:
            await self._deal_with(claimed)
            count += 1
        return count

    async def _deal_with(self, claimed: _Claimed) -> None:
        kind = claimed.occasion.kind
        if claimed.is_old:
            _log.error("mail given up after a day", mail_id=str(claimed.id), kind=kind)
            await self._forget(claimed.id)
            return
        try:
            letter = await self._composers[kind](claimed.occasion)
            if letter is not None:
                await self._server.send(letter)
        except LetterRefused as error:
            _log.warning("mail refused", mail_id=str(claimed.id), kind=kind, reason=str(error))
        except MailUnavailable as error:
            _log.warning("mail waits", mail_id=str(claimed.id), kind=kind, reason=str(error))
            await self._retry(claimed)
            return
        await self._forget(claimed.id)

    async def _claim(self) -> _Claimed | None:
        async with self._database.platform() as connection:
            row = await connection.fetchrow(_CLAIM, _LEASE, _GIVEN_UP_AFTER)
        if row is None:
            return None
        mail_id, kind, address, details, *rest = row
        return _Claimed(mail_id, Occasion(MailKind(kind), address, details), *rest)

    async def _retry(self, claimed: _Claimed) -> None:
        pause = timedelta(seconds=min(5 * 2 ** min(claimed.attempts - 1, 20), _LONGEST_PAUSE_S))
        async with self._database.platform() as connection:
            await connection.execute(
                "UPDATE mail_outbox SET due_at = now() + $2::interval WHERE id = $1",
                claimed.id,
                pause,
            )

    async def _forget(self, mail_id: UUID) -> None:
        async with self._database.platform() as connection:
            await connection.execute("DELETE FROM mail_outbox WHERE id = $1", mail_id)
