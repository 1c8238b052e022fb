"""Moves the messages of all conversations to another log, while they are read and written.

First everything new is written to both logs, then what was there is copied, conversation by
conversation, and both are compared. Only then is the other one read; the one before goes on getting
everything, as the way back, until `finish`, which empties it by what it holds, not by what the
database knows: of a deleted conversation it may be alone to know.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeAlias
from uuid import UUID

import orjson

from planes.shared.domain import ChatMessage
from planes.shared.errors import Conflict
from planes.shared.ports import ChatLog
from planes.shared.stores.chat_rows import payload_of
from planes.shared.stores.placed_chat_log import ChatLogPlace
from planes.shared.stores.postgres import Database

_PAGE = 500
_LOOKS, _LOOK_AGAIN_S = 5, 1.0
_SETTLED_S = 5.0  # longer than a gateway believes what it knows, and than a writing takes
_FIRST = UUID(int=0)
_ROW = "SELECT * FROM chat_log_place"
_CONVERSATIONS = """
SELECT c.tenant_id, c.id FROM conversations c JOIN tenants t ON t.id = c.tenant_id
WHERE c.deleted_at IS NULL AND t.deleted_at IS NULL AND c.id > $1 ORDER BY c.id LIMIT $2
"""
_IS_THERE = """
SELECT true FROM conversations c JOIN tenants t ON t.id = c.tenant_id
WHERE c.tenant_id = $1 AND c.id = $2 AND c.deleted_at IS NULL AND t.deleted_at IS NULL
"""
_OF_TENANT = """
SELECT c.id FROM conversations c JOIN tenants t ON t.id = c.tenant_id
WHERE c.tenant_id = $1 AND c.deleted_at IS NULL AND t.deleted_at IS NULL AND c.id > $2
ORDER BY c.id LIMIT $3
"""
_TENANTS = """
SELECT t.id FROM tenants t WHERE t.deleted_at IS NULL AND EXISTS (
    SELECT FROM conversations c WHERE c.tenant_id = t.id AND c.deleted_at IS NULL) ORDER BY 1
"""
_BEGIN = """
UPDATE chat_log_place SET also = $2, copied_to = NULL, verified = NULL
WHERE live = $1 AND also IS NULL AND leaving IS NULL
"""
_REACHED = "UPDATE chat_log_place SET copied_to = $1 WHERE also = $2"
_VERIFIED = "UPDATE chat_log_place SET verified = $1 WHERE also = $2"
_SWITCH = "UPDATE chat_log_place SET live = also, also = live WHERE live = $1 AND also = $2"
_LEAVE = """
UPDATE chat_log_place
SET leaving = coalesce(leaving, also), also = NULL, copied_to = NULL, verified = NULL
WHERE coalesce(leaving, also) IS NOT NULL RETURNING leaving
"""
_LEFT = "UPDATE chat_log_place SET leaving = NULL WHERE leaving = $1"
_OUR_TENANTS = "SELECT id FROM tenants WHERE id = ANY ($1)"
Conversation: TypeAlias = tuple[UUID, UUID]


class MovableLog(ChatLog, Protocol):
    """A chat log that knows what is in it."""

    def conversations(self) -> AsyncGenerator[list[Conversation], None]:
        """Yield every conversation of which there are messages, by tenant and id, in any order.

        They are of all tenants, and of other platforms where these share a cluster's keyspace. What
        is written or removed meanwhile may be missing or among them.
        """
        ...


@dataclass(frozen=True, slots=True)
class TenantMessages:
    """One tenant in both logs: counts and hashes, first of the one that is read.

    `differing` holds conversations whose messages are not the same; `foreign` those among them of
    which the other log has messages that the read one lacks: no copying mends these.
    """

    tenant_id: UUID
    messages: tuple[int, int]
    sha256: tuple[str, str]
    differing: tuple[UUID, ...]
    foreign: tuple[UUID, ...]


class ChatLogMove:
    """The operator's steps; each can be repeated.

    Every method raises `Unavailable` where database or log do not answer.
    """

    def __init__(self, database: Database, logs: Mapping[str, MovableLog]) -> None:
        """Store the database, as the owner of its schema, and the open logs by their kinds."""
        self._database = database
        self._logs = logs

    async def place(self) -> ChatLogPlace:
        """Return which log is read, which one is written too, and which one is being emptied.

        Raises:
            Conflict: The database does not know it yet.
        """
        row = await self._row()
        if row["live"] is None:
            raise Conflict("It is not known where messages are: run `polyplane migrate`.")
        return ChatLogPlace(row["live"], row["also"], row["leaving"])

    async def verified(self) -> dict[str, Any] | None:
        """Return what the last comparison found to be equal, and when; None: it was not."""
        verified: dict[str, Any] | None = (await self._row())["verified"]
        return verified

    async def begin(self, target: str) -> None:
        """Have everything new written to another log too; begun already, it goes on.

        Raises:
            Conflict: Messages are there already, or on their way to another one, or the one before
                was not emptied to its end.
        """
        place = await self.place()
        if place.live == target:
            raise Conflict(f"Messages are in {target} already.")
        if place.leaving is not None:
            raise Conflict(
                f"Messages still leave {place.leaving}: "
                "run `polyplane stores finish-messages` again."
            )
        if place.also not in {None, target}:
            raise Conflict(f"Messages are on their way to {place.also}: finish that first.")
        if place.also is None:
            async with self._database.platform() as connection:
                await connection.execute(_BEGIN, place.live, target)

    async def copy(self) -> AsyncIterator[tuple[int, int]]:
        """Copy what the other log lacks, from where it was left; yield counts as it proceeds.

        They are conversations and messages.
        """
        row, conversations, messages = await self._row(), 0, 0
        after = row["copied_to"] or _FIRST
        while True:
            async with self._database.platform() as connection:
                found = await connection.fetch(_CONVERSATIONS, after, _PAGE)
            for one in found:
                messages += await self._copy(
                    (one["tenant_id"], one["id"]), row["live"], row["also"]
                )
                conversations += 1
            if not found:
                return
            after = found[-1]["id"]
            async with self._database.platform() as connection:
                await connection.execute(_REACHED, after, row["also"])
            yield conversations, messages

    async def verify(self) -> AsyncIterator[TenantMessages]:
        """Compare both logs and copy again what differs; yield what each tenant has.

        Where nothing differs in the end, the other log may be switched to. Until then it may not,
        whatever was found before.
        """
        place, is_equal, total = await self.place(), True, 0
        async with self._database.platform() as connection:
            await connection.execute(_VERIFIED, None, place.also)
            tenants = [row["id"] for row in await connection.fetch(_TENANTS)]
        for tenant_id in tenants:
            found = await self._compared(tenant_id, place)
            is_equal, total = is_equal and not found.differing, total + found.messages[0]
            yield found
        if is_equal and place.also is not None:
            notes: dict[str, Any] = {
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "tenants": len(tenants),
                "messages": total,
            }
            async with self._database.platform() as connection:
                await connection.execute(_VERIFIED, notes, place.also)

    async def switch(self) -> ChatLogPlace:
        """Read the other log from now on; the one before goes on getting everything.

        Raises:
            Conflict: Nothing is on its way, or it was never found to be equal.
        """
        row = await self._row()
        if row["also"] is None:
            raise Conflict("Messages are not on their way to another log.")
        if row["verified"] is None:
            raise Conflict("Both logs were not found to be equal: copy again.")
        async with self._database.platform() as connection:
            await connection.execute(_SWITCH, row["live"], row["also"])
        return await self.place()

    async def finish(self) -> int:
        """Give up the log that is not read, and empty it; interrupted, it goes on.

        Tenants that the database does not know keep what they have there: they are of another
        platform.

        Returns:
            How many messages were removed from it.

        Raises:
            Conflict: There is none.
        """
        async with self._database.platform() as connection:
            leaving = await connection.fetchval(_LEAVE)
        if leaving is None:
            raise Conflict("Messages are in one log only.")
        await asyncio.sleep(_SETTLED_S)
        removed = 0
        async with aclosing(self._logs[leaving].conversations()) as found:
            async for some in found:
                for one in await self._ours(some):
                    removed += await self._logs[leaving].remove_conversation(*one)
        async with self._database.platform() as connection:
            await connection.execute(_LEFT, leaving)
        return removed

    async def _ours(self, conversations: Sequence[Conversation]) -> list[Conversation]:
        tenants = list({tenant_id for tenant_id, _ in conversations})
        async with self._database.platform() as connection:
            known = {row["id"] for row in await connection.fetch(_OUR_TENANTS, tenants)}
        return [one for one in conversations if one[0] in known]

    async def _row(self) -> Any:
        async with self._database.platform() as connection:
            return await connection.fetchrow(_ROW)

    async def _copy(self, conversation: Conversation, source: str, target: str) -> int:
        count = 0
        async with aclosing(self._logs[source].messages(*conversation)) as found:
            async for some in found:
                await self._logs[target].announce(some)
                if not await self._is_there(conversation):
                    break
                await self._logs[target].adopt(some)
                count += len(some)
        return count

    async def _compared(self, tenant_id: UUID, place: ChatLogPlace) -> TenantMessages:
        hashes, counts, differing = (hashlib.sha256(), hashlib.sha256()), [0, 0], list[UUID]()
        foreign = list[UUID]()
        after = _FIRST
        while True:
            async with self._database.tenant(tenant_id) as connection:
                found = await connection.fetch(_OF_TENANT, tenant_id, after, _PAGE)
            for row in found:
                both = await self._read_both((tenant_id, row["id"]), place)
                if both is None:
                    continue
                if both[0] != both[1]:
                    differing.append(row["id"])
                if both[1] - both[0]:
                    foreign.append(row["id"])
                for side, rows in enumerate(both):
                    counts[side] += len(rows)
                    hashes[side].update(row["id"].bytes + b"".join(sorted(rows)))
            if not found:
                break
            after = found[-1]["id"]
        return TenantMessages(
            tenant_id,
            (counts[0], counts[1]),
            (hashes[0].hexdigest(), hashes[1].hexdigest()),
            tuple(differing),
            tuple(foreign),
        )

    async def _read_both(
        self, conversation: Conversation, place: ChatLogPlace
    ) -> tuple[set[bytes], set[bytes]] | None:
        """Return the digests of a conversation's messages in both; None: it was deleted.

        What the first has must come to the second, what the second has must be in the first: what
        is just being written stands in one of them earlier. What does not come is copied again.
        """
        here, there = place.live, place.also or place.live
        known = await self._digests(conversation, here)
        found = await self._digests(conversation, there)
        missing = known - found
        foreign = found - known and found - await self._digests(conversation, here)
        for look in range(_LOOKS):
            if not missing and not foreign:
                break
            if not await self._is_there(conversation):
                return None
            await asyncio.sleep(_LOOK_AGAIN_S)
            if look == 1:
                await self._copy(conversation, here, there)
            missing -= await self._digests(conversation, there)
            foreign -= await self._digests(conversation, here)
        return known, known - missing | foreign

    async def _digests(self, conversation: Conversation, kind: str) -> set[bytes]:
        digests: set[bytes] = set()
        async with aclosing(self._logs[kind].messages(*conversation)) as found:
            async for some in found:
                digests.update(map(_digest, some))
        return digests

    async def _is_there(self, conversation: Conversation) -> bool:
        async with self._database.tenant(conversation[0]) as connection:
            return bool(await connection.fetchval(_IS_THERE, *conversation))


def _digest(message: ChatMessage) -> bytes:
    key = [str(message.id), str(message.tenant_id), str(message.conversation_id), message.seq]
    row = orjson.dumps([key, payload_of(message)], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(row).digest()
