"""Refused sign-ins, written to the audit log after the answer: its time must tell nothing."""

import asyncio
from uuid import UUID

import structlog

from planes.shared.errors import PlatformError
from planes.shared.stores.postgres import Database
from services.gateway.audit import Action, AuditEvent
from services.gateway.auth.audit_trail import record_in_tenant

_MAX_WAITING = 200
_log = structlog.get_logger(__name__)

_LAST_TENANT = """
SELECT tenant_id FROM memberships WHERE user_id = $1 ORDER BY last_used_at DESC LIMIT 1
"""


class RefusedSignIns:
    """Notes refused sign-ins of known accounts in the tenant that each was last in."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database
        self._waiting: set[asyncio.Task[None]] = set()

    def note(self, user_id: UUID, *, reason: str) -> None:
        """Begin to write one event, and return at once."""
        if len(self._waiting) >= _MAX_WAITING:
            _log.warning("a refused sign-in is not in the audit log", user_id=str(user_id))
            return
        task = asyncio.create_task(self._write(user_id, reason))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def close(self) -> None:
        """Finish what has begun, for five seconds at most."""
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=5)

    async def _write(self, user_id: UUID, reason: str) -> None:
        try:
            async with self._database.tenant(None, user_id) as connection:
                tenant_id = await connection.fetchval(_LAST_TENANT, user_id)
                if tenant_id is None:
                    return
                event = AuditEvent(
                    tenant_id,
                    Action.SIGN_IN_FAILED,
                    subject=f"user:{user_id}",
                    details={"reason": reason},
                )
                await record_in_tenant(connection, event)
        except PlatformError as error:
            _log.warning("a refused sign-in is not in the audit log", reason=error.detail)
