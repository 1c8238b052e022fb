"""Messages move to another log while they are read, written and deleted: none is missed."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from planes.shared.domain import ChatMessage, new_id
from planes.shared.errors import Conflict, Unavailable
from planes.shared.ports import ChatLog
from planes.shared.stores.chat_log_move import ChatLogMove, MovableLog
from planes.shared.stores.chat_log_settings import open_cql_log
from planes.shared.stores.placed_chat_log import PlacedChatLog, note_place
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chat_log import PostgresChatLog
from services.cli.message_moves import copy_all, told_place
from tests.contract.test_chat_log import message
from tests.servers.cql_fixtures import cql_settings

pytestmark = pytest.mark.integration


@dataclass
class MemoryLog:
    """A chat log in memory, which remembers deletions of what it knew, as a cluster does."""

    rows: dict[UUID, ChatMessage] = field(default_factory=dict)
    known: set[UUID] = field(default_factory=set)
    gone: set[UUID] = field(default_factory=set)
    is_away: bool = False

    async def check(self) -> None:
        if self.is_away:
            raise Unavailable("The log is away.")

    async def append(self, messages: Sequence[ChatMessage]) -> None:
        await self.announce(messages)
        self.rows |= {one.id: one for one in messages if one.conversation_id not in self.gone}

    async def announce(self, messages: Sequence[ChatMessage]) -> None:
        await self.check()
        self.known |= {one.conversation_id for one in messages}

    async def adopt(self, messages: Sequence[ChatMessage]) -> None:
        await self.append(messages)

    async def page(
        self, tenant_id: UUID, conversation_id: UUID, *, after_seq: int, limit: int
    ) -> list[ChatMessage]:
        await self.check()
        found = sorted(self._of(tenant_id, conversation_id), key=lambda one: one.id)
        newest = {one.seq: one for one in found if one.seq > after_seq}
        return [newest[seq] for seq in sorted(newest)][:limit]

    async def find(
        self, tenant_id: UUID, conversation_id: UUID, *, seq: int, message_id: UUID
    ) -> ChatMessage | None:
        await self.check()
        found = self._of(tenant_id, conversation_id)
        return next((one for one in found if (one.seq, one.id) == (seq, message_id)), None)

    async def messages(
        self, tenant_id: UUID, conversation_id: UUID
    ) -> AsyncGenerator[list[ChatMessage], None]:
        await self.check()
        yield self._of(tenant_id, conversation_id)

    async def conversations(self) -> AsyncGenerator[list[tuple[UUID, UUID]], None]:
        await self.check()
        yield list({(one.tenant_id, one.conversation_id) for one in self.rows.values()})

    async def remove_conversation(self, tenant_id: UUID, conversation_id: UUID) -> int:
        await self.check()
        found = self._of(tenant_id, conversation_id)
        self.gone |= {conversation_id} & self.known
        for one in found:
            del self.rows[one.id]
        return len(found)

    def _of(self, tenant_id: UUID, conversation_id: UUID) -> list[ChatMessage]:
        key = (tenant_id, conversation_id)
        return [one for one in self.rows.values() if (one.tenant_id, one.conversation_id) == key]


@dataclass
class Conversations:
    """A database with a tenant, its conversations, and both logs."""

    owner: Database
    tenant_id: UUID
    move: ChatLogMove
    log: PlacedChatLog
    table: ChatLog
    other: MovableLog

    async def begin(self) -> UUID:
        conversation_id = new_id()
        async with self.owner.tenant(self.tenant_id) as connection:
            await connection.execute(
                "INSERT INTO conversations (id, tenant_id, user_id, title, mode) "
                "VALUES ($1, $2, $2, '', 'rag')",
                conversation_id,
                self.tenant_id,
            )
        return conversation_id

    async def say(self, conversation_id: UUID, *seqs: int) -> list[ChatMessage]:
        said = [message(seq, conversation_id, tenant=self.tenant_id) for seq in seqs]
        await self.log.append(said)
        return said

    async def read(self, conversation_id: UUID) -> list[ChatMessage]:
        return await self.log.page(self.tenant_id, conversation_id, after_seq=0, limit=99)

    async def close(self, conversation_id: UUID) -> None:
        """Delete a conversation as its owner does; its messages are removed later."""
        async with self.owner.tenant(self.tenant_id) as connection:
            await connection.execute(
                "UPDATE conversations SET deleted_at = now() WHERE id = $1", conversation_id
            )

    async def delete(self, conversation_id: UUID) -> int:
        await self.close(conversation_id)
        removed = await self.log.remove_conversation(self.tenant_id, conversation_id)
        async with self.owner.tenant(self.tenant_id) as connection:
            await connection.execute("DELETE FROM conversations WHERE id = $1", conversation_id)
        return removed

    async def copy(self) -> bool:
        async for _ in self.move.copy():
            pass
        return all([not one.differing async for one in self.move.verify()])

    async def in_(self, log: ChatLog, conversation_id: UUID) -> int:
        """Return how many messages a log has of a conversation."""
        found = log.messages(self.tenant_id, conversation_id)
        return sum([len(some) async for some in found])


@pytest.fixture(params=["memory", "cassandra"])
async def conversations(
    request: pytest.FixtureRequest, database_urls: dict[str, str]
) -> AsyncIterator[Conversations]:
    owner = Database(database_urls["admin"], service="test")
    gateway = Database(database_urls["gateway"], service="test")
    async with AsyncExitStack() as stack:
        for database in (owner, gateway):
            await database.open()
            stack.push_async_callback(database.close)
        other: MovableLog = MemoryLog()
        if request.param == "cassandra":
            settings = cql_settings(request.getfixturevalue("cql_values"))
            other = await stack.enter_async_context(open_cql_log(settings, gateway))
        tenant_id, table = new_id(), PostgresChatLog(gateway)
        async with owner.tenant(tenant_id) as connection:
            await connection.execute("INSERT INTO tenants (id, name) VALUES ($1, 'a')", tenant_id)
            await connection.execute(
                "INSERT INTO users (id, email, email_key, password_hash, display_name) "
                "VALUES ($1, '', '', '', '')",
                tenant_id,
            )
        logs: dict[str, ChatLog] = {"postgres": table, "cql": other}
        await note_place(database_urls["admin"], "postgres")
        move = ChatLogMove(owner, {"postgres": PostgresChatLog(owner), "cql": other})
        placed = PlacedChatLog(gateway, logs, default="postgres")
        yield Conversations(owner, tenant_id, move, placed, table, other)


async def test_messages_move_there_and_back_while_more_are_written(
    conversations: Conversations,
) -> None:
    first, second = await conversations.begin(), await conversations.begin()
    said = await conversations.say(first, 1, 2, 2, 3)
    await conversations.move.begin("cql")
    said += await conversations.say(first, 4)
    more = await conversations.say(second, 1)
    assert await conversations.copy()
    before = await conversations.read(first)
    assert (await conversations.move.switch()).live == "cql"
    await conversations.log.place()
    assert await conversations.read(first) == before
    assert await conversations.read(second) == more
    said += await conversations.say(first, 5)
    for log in (conversations.table, conversations.other):
        found = [some async for some in log.messages(conversations.tenant_id, first)]
        assert {one.id for some in found for one in some} == {one.id for one in said}
    assert (await conversations.move.switch()).live == "postgres", "the way back"
    await conversations.log.place()
    assert [one.seq for one in await conversations.read(first)] == [1, 2, 3, 4, 5]


async def test_a_writer_that_does_not_know_of_the_move_yet_writes_to_both(
    conversations: Conversations,
) -> None:
    conversation_id = await conversations.begin()
    await conversations.log.place()  # known for a second
    await conversations.move.begin("cql")
    (said,) = await conversations.say(conversation_id, 1)
    found = await conversations.other.page(
        conversations.tenant_id, conversation_id, after_seq=0, limit=9
    )
    assert found == [said]


async def test_what_is_deleted_during_a_move_is_gone_from_both(
    conversations: Conversations,
) -> None:
    gone, kept = await conversations.begin(), await conversations.begin()
    said = await conversations.say(gone, 1, 2)
    await conversations.say(kept, 1)
    await conversations.move.begin("cql")
    await conversations.other.announce(said)
    assert await conversations.delete(gone) == 2
    await conversations.other.adopt(said)  # read before, and written late
    await conversations.table.adopt(said)
    assert await conversations.copy()
    for log in (conversations.table, conversations.other):
        assert await log.page(conversations.tenant_id, gone, after_seq=0, limit=9) == []
        assert len(await log.page(conversations.tenant_id, kept, after_seq=0, limit=9)) == 1


async def test_a_tenant_that_is_deleted_during_a_move_leaves_nothing_in_either_log(
    conversations: Conversations,
) -> None:
    conversation_id = await conversations.begin()
    key = (conversations.tenant_id, conversation_id)
    await conversations.say(conversation_id, 1, 2)
    await conversations.move.begin("cql")

    class DeletedWhileRead(PostgresChatLog):
        async def messages(
            self, tenant_id: UUID, conversation_id: UUID
        ) -> AsyncGenerator[list[ChatMessage], None]:
            async for some in super().messages(tenant_id, conversation_id):
                async with conversations.owner.tenant(tenant_id) as connection:
                    await connection.execute("UPDATE tenants SET deleted_at = now()")
                assert await conversations.log.remove_conversation(*key) == 2
                yield some  # the conversation's row goes after its messages

    source = DeletedWhileRead(conversations.owner)
    move = ChatLogMove(conversations.owner, {"postgres": source, "cql": conversations.other})
    async for _ in move.copy():
        pass
    for log in (conversations.table, conversations.other):
        assert await conversations.in_(log, conversation_id) == 0


async def test_nothing_is_switched_to_before_both_were_found_equal(
    conversations: Conversations,
) -> None:
    conversation_id = await conversations.begin()
    await conversations.say(conversation_id, 1)
    with pytest.raises(Conflict, match="not on their way"):
        await conversations.move.switch()
    await conversations.move.begin("cql")
    with pytest.raises(Conflict, match="not found to be equal"):
        await conversations.move.switch()
    with pytest.raises(Conflict, match="in postgres already"):
        await conversations.move.begin("postgres")
    await conversations.move.begin("cql")


async def test_a_lost_message_is_copied_again_by_the_comparison(
    conversations: Conversations,
) -> None:
    conversation_id = await conversations.begin()
    await conversations.say(conversation_id, 1, 2)
    await conversations.move.begin("cql")
    async for _ in conversations.move.copy():
        pass
    extra = message(3, conversation_id, tenant=conversations.tenant_id)
    await conversations.table.append([extra])  # as if the other log had lost it
    assert all([not one.differing async for one in conversations.move.verify()])
    found = await conversations.other.page(
        conversations.tenant_id, conversation_id, after_seq=0, limit=9
    )
    assert found[-1] == extra


@pytest.mark.parametrize("conversations", ["memory"], indirect=True)
async def test_a_comparison_that_fails_withdraws_the_one_before_and_says_what_copying_does_not_mend(
    conversations: Conversations,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("planes.shared.stores.chat_log_move._LOOK_AGAIN_S", 0.0)
    conversation_id = await conversations.begin()
    await conversations.say(conversation_id, 1)
    assert await copy_all(conversations.move, target="cql")
    await conversations.other.append([message(2, conversation_id, tenant=conversations.tenant_id)])
    assert not await copy_all(conversations.move, target="cql")
    told = " ".join(capsys.readouterr().out.split())
    assert f"Conversations of which it has more: {conversation_id}" in told
    assert "finish-messages" in told
    with pytest.raises(Conflict, match="not found to be equal"):
        await conversations.move.switch()


@pytest.mark.parametrize("conversations", ["memory"], indirect=True)
async def test_a_move_that_was_interrupted_goes_on_where_it_was(
    conversations: Conversations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planes.shared.stores.chat_log_move._PAGE", 2)
    for _ in range(5):
        await conversations.say(await conversations.begin(), 1, 2)
    await conversations.move.begin("cql")
    async for counts in conversations.move.copy():
        assert counts == (2, 4)
        break
    rest = [counts async for counts in conversations.move.copy()]
    assert rest[-1] == (3, 6)
    assert await conversations.copy()


@pytest.mark.parametrize("conversations", ["memory"], indirect=True)
async def test_a_log_that_is_away_keeps_messages_waiting_and_is_never_taken_for_empty(
    conversations: Conversations,
) -> None:
    conversation_id = await conversations.begin()
    await conversations.say(conversation_id, 1)
    await conversations.move.begin("cql")
    assert await conversations.copy()
    assert isinstance(conversations.other, MemoryLog)
    conversations.other.is_away = True
    with pytest.raises(Unavailable):
        await conversations.say(conversation_id, 2)
    await conversations.move.switch()
    await conversations.log.place()
    with pytest.raises(Unavailable):
        await conversations.read(conversation_id)
    ignorant = PlacedChatLog(
        conversations.owner, {"postgres": conversations.table}, default="postgres"
    )
    with pytest.raises(Unavailable, match="set CQL_HOSTS"):
        await ignorant.page(conversations.tenant_id, conversation_id, after_seq=0, limit=9)


@pytest.mark.parametrize("conversations", ["memory"], indirect=True)
async def test_a_changed_setting_does_not_hide_what_is_there(
    conversations: Conversations, database_urls: dict[str, str]
) -> None:
    conversation_id = await conversations.begin()
    said = await conversations.say(conversation_id, 1)
    assert await note_place(database_urls["admin"], "cql") == "postgres"
    logs = {"postgres": conversations.table, "cql": conversations.other}
    configured = PlacedChatLog(conversations.owner, logs, default="cql")
    found = await configured.page(conversations.tenant_id, conversation_id, after_seq=0, limit=9)
    assert found == said


@pytest.mark.parametrize("conversations", ["memory"], indirect=True)
async def test_in_the_end_one_log_is_empty_and_no_longer_written(
    conversations: Conversations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planes.shared.stores.chat_log_move._SETTLED_S", 0.0)
    conversation_id = await conversations.begin()
    await conversations.say(conversation_id, 1, 2)
    await conversations.move.begin("cql")
    assert await conversations.copy()
    await conversations.move.switch()
    assert await conversations.move.finish() == 2
    await conversations.log.place()
    await conversations.say(conversation_id, 3)
    assert len(await conversations.read(conversation_id)) == 3
    left = conversations.table.messages(conversations.tenant_id, conversation_id)
    assert [some async for some in left] == []


async def test_the_log_that_is_given_up_keeps_nothing_not_even_of_deleted_conversations(
    conversations: Conversations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planes.shared.stores.chat_log_move._SETTLED_S", 0.0)
    kept, deleted = await conversations.begin(), await conversations.begin()
    for conversation_id in (kept, deleted):
        await conversations.say(conversation_id, 1, 2)
    foreign = message(1, new_id(), tenant=new_id())
    await conversations.other.append([foreign])  # of another platform, in the same keyspace
    await conversations.move.begin("cql")
    assert await conversations.copy()
    await conversations.close(deleted)  # and not purged yet
    assert await conversations.move.finish() == 4
    for conversation_id in (kept, deleted):
        assert await conversations.in_(conversations.other, conversation_id) == 0
    assert await conversations.in_(conversations.table, kept) == 2
    spared = conversations.other.messages(foreign.tenant_id, foreign.conversation_id)
    assert [some async for some in spared] == [[foreign]]
    with pytest.raises(Conflict, match="one log only"):
        await conversations.move.finish()


@pytest.mark.parametrize("conversations", ["memory"], indirect=True)
async def test_an_operator_sees_where_messages_are_and_how_their_move_stands(
    conversations: Conversations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planes.shared.stores.chat_log_move._SETTLED_S", 0.0)
    owner, move = conversations.owner, conversations.move
    await conversations.say(await conversations.begin(), 1)
    assert await told_place(owner) == "messages  postgres"
    await move.begin("cql")
    assert await told_place(owner) == "messages  postgres  also written to cql  not verified"
    assert await conversations.copy()
    await move.switch()
    assert "cql  also written to postgres  verified 20" in await told_place(owner)
    await move.switch()
    assert isinstance(conversations.other, MemoryLog)
    conversations.other.is_away = True
    with pytest.raises(Unavailable):
        await move.finish()
    assert "messages  postgres  still leave cql" in await told_place(owner)


@pytest.mark.parametrize("conversations", ["memory"], indirect=True)
async def test_an_end_that_was_interrupted_goes_on_and_deletions_reach_what_is_left(
    conversations: Conversations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planes.shared.stores.chat_log_move._SETTLED_S", 0.0)
    kept, deleted = await conversations.begin(), await conversations.begin()
    for conversation_id in (kept, deleted):
        await conversations.say(conversation_id, 1, 2)
    await conversations.move.begin("cql")
    assert await conversations.copy()
    assert isinstance(conversations.other, MemoryLog)
    conversations.other.is_away = True
    with pytest.raises(Unavailable):
        await conversations.move.finish()
    conversations.other.is_away = False
    await conversations.say(kept, 3)
    assert await conversations.in_(conversations.other, kept) == 2, "no longer written"
    with pytest.raises(Conflict, match="finish-messages"):
        await conversations.move.begin("cql")
    with pytest.raises(Conflict, match="not on their way"):
        await conversations.move.switch()
    assert await conversations.delete(deleted) == 2
    assert await conversations.in_(conversations.other, deleted) == 0
    assert await conversations.move.finish() == 2
    assert await conversations.in_(conversations.other, kept) == 0
    await conversations.move.begin("cql")


async def test_writers_and_a_move_at_once_lose_no_message(conversations: Conversations) -> None:
    ids = [await conversations.begin() for _ in range(4)]
    stop = asyncio.Event()
    said: dict[UUID, int] = dict.fromkeys(ids, 0)

    async def write() -> None:
        while not stop.is_set():
            for conversation_id in ids:
                said[conversation_id] += 1
                await conversations.say(conversation_id, said[conversation_id])
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        await asyncio.sleep(0.1)
        await conversations.move.begin("cql")
        assert await conversations.copy()
        await conversations.move.switch()
        await asyncio.sleep(0.1)
        stop.set()
    for conversation_id, count in said.items():
        for log in (conversations.table, conversations.other):
            batches = [one async for one in log.messages(conversations.tenant_id, conversation_id)]
            assert sorted(one.seq for some in batches for one in some) == [*range(1, count + 1)]
