"""The functions that move money, at their edges, on a real PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from planes.shared.domain import ChatMode, TenantContext, new_id
from planes.shared.errors import Conflict
from planes.shared.stores.postgres import Database
from services.gateway.chat import booking, repository
from services.gateway.chat.booking import Intent, Settlement
from services.gateway.chat.repository import Produced
from services.gateway.maintenance import sweep_reservation


@dataclass
class Books:
    """One tenant's money, and whose it is."""

    database: Database
    context: TenantContext

    def intent(self, conversation_id: UUID | None = None) -> Intent:
        return Intent(
            answer_id=new_id(),
            conversation_id=conversation_id or new_id(),
            title=None if conversation_id else "a title",
            mode=ChatMode.RAG,
            document_ids=None,
            question_id=new_id(),
            question="How long?",
            message_id=new_id(),
            model="extractive",
            max_prompt_tokens=1000,
            max_tokens=200,
        )

    async def reserve(self, intent: Intent) -> None:
        async with self.database.platform() as connection:
            await booking.reserve(connection, self.context, intent)

    async def checkpoint(self, intent: Intent, produced: Produced) -> bool:
        async with self.database.platform() as connection:
            return await repository.checkpoint(connection, self.context, intent.answer_id, produced)

    async def settle(self, intent: Intent, settlement: Settlement) -> Decimal | None:
        async with self.database.platform() as connection:
            return await booking.settle(connection, self.context, intent.answer_id, settlement)

    async def release(self, intent: Intent, *, undo: bool) -> None:
        async with self.database.platform() as connection:
            await repository.release(connection, self.context, intent.answer_id, undo=undo)

    async def expire(self, admin: Database) -> None:
        async with admin.platform() as connection:
            await connection.execute(
                "UPDATE reservations SET expires_at = now() - $1::interval", _SECOND
            )

    async def count(self, table: str) -> int:
        async with self.database.tenant(self.context.tenant_id) as connection:
            return await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608

    async def quota(self) -> dict[str, int]:
        async with self.database.tenant(self.context.tenant_id) as connection:
            row = await connection.fetchrow("SELECT * FROM quota_periods")
        names = ("messages_used", "messages_reserved", "tokens_used", "tokens_reserved")
        return {name: row[name] for name in names}


_SECOND = timedelta(seconds=1)
_ANSWER = Settlement(
    "extractive",
    30,
    12,
    {"content": "Two years.", "citations": [], "created_at": "2026-11-21T08:00:00+00:00"},
)


@pytest.fixture
async def admin(database_urls: dict[str, str]) -> AsyncIterator[Database]:
    database = Database(database_urls["admin"], service="test-admin")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def books(database_urls: dict[str, str], admin: Database) -> AsyncIterator[Books]:
    async with _opened_books(database_urls, admin, "a@b.c") as opened:
        yield opened


@pytest.fixture
async def other_books(database_urls: dict[str, str], admin: Database) -> AsyncIterator[Books]:
    async with _opened_books(database_urls, admin, "d@e.f") as opened:
        yield opened


@asynccontextmanager
async def _opened_books(
    database_urls: dict[str, str], admin: Database, email: str
) -> AsyncIterator[Books]:
    context = TenantContext(new_id(), new_id())
    async with admin.platform() as connection:
        await connection.execute(
            "INSERT INTO tenants (id, name) VALUES ($1, 'a team')", context.tenant_id
        )
        await connection.execute(
            "INSERT INTO users (id, email, email_key, password_hash, display_name) "
            "VALUES ($1, $2, $2, '', 'Ada')",
            context.user_id,
            email,
        )
    database = Database(database_urls["gateway"], service="test-gateway")
    await database.open()
    yield Books(database, context)
    await database.close()


async def test_settling_twice_bills_once_and_tells_the_same_cost(books: Books) -> None:
    intent = books.intent()
    await books.reserve(intent)
    first = await books.settle(intent, _ANSWER)
    again = await books.settle(intent, _ANSWER)
    assert first == again == 30 * Decimal("0.00000001") + 12 * Decimal("0.00000004")
    assert await books.count("ledger") == 1
    assert await books.quota() == {
        "messages_used": 1,
        "messages_reserved": 0,
        "tokens_used": 42,
        "tokens_reserved": 0,
    }


async def test_a_dead_answer_is_billed_for_its_last_checkpoint(
    books: Books, admin: Database
) -> None:
    intent = books.intent()
    await books.reserve(intent)
    assert await books.checkpoint(intent, Produced(30, 5, "Two ye", "extractive"))
    assert not await sweep_reservation(books.database), "it is alive"
    await books.expire(admin)
    assert await sweep_reservation(books.database)
    assert not await sweep_reservation(books.database)
    assert (await books.quota())["tokens_used"] == 35
    assert (await books.quota())["tokens_reserved"] == 0
    assert not await books.checkpoint(intent, Produced(30, 9, "Two years", "extractive")), (
        "it was swept"
    )
    assert await books.settle(intent, _ANSWER) is None, "nobody bills it a second time"
    assert await books.count("ledger") == 1
    assert await books.count("outbox") == 2


async def test_a_dead_answer_is_billed_at_the_price_of_the_model_that_answered(
    books: Books, admin: Database
) -> None:
    async with admin.platform() as connection:
        await connection.execute("INSERT INTO prices VALUES ('dear', 0.5, 2)")
    intent = books.intent()
    await books.reserve(intent)
    assert await books.checkpoint(intent, Produced(30, 5, "Two ye", "dear"))
    await books.expire(admin)
    assert await sweep_reservation(books.database)
    async with books.database.tenant(books.context.tenant_id) as connection:
        (bill,) = await connection.fetch("SELECT model, cost_usd FROM ledger")
        stored = await connection.fetchval(
            "SELECT payload FROM outbox WHERE id = $1", intent.message_id
        )
        quota = await connection.fetchrow("SELECT * FROM quota_periods")
    assert (bill["model"], bill["cost_usd"]) == ("dear", 30 * Decimal("0.5") + 5 * 2)
    assert stored["content"] == "Two ye"
    assert stored["model"] == "dear"
    assert quota["cost_usd_used"] == bill["cost_usd"]
    assert quota["cost_usd_reserved"] == 0


async def test_an_answer_changes_its_conversation_and_its_quota_in_place(books: Books) -> None:
    first = books.intent()
    await books.reserve(first)
    await books.settle(first, _ANSWER)
    intent = books.intent(first.conversation_id)
    answer = replace(_ANSWER, ledger_id=new_id())
    async with books.database.tenant(books.context.tenant_id) as connection:
        await booking.reserve(connection, books.context, intent)
        await booking.settle(connection, books.context, intent.answer_id, answer)
        for table in ("conversations", "quota_periods"):
            changed = await connection.fetchrow(
                "SELECT pg_stat_get_xact_tuples_updated($1::regclass) AS rows, "
                "pg_stat_get_xact_tuples_hot_updated($1::regclass) AS in_place",
                table,
            )
            assert changed["rows"] >= 2
            assert changed["in_place"] == changed["rows"], f"an index holds what changes: {table}"


async def test_reservations_that_cannot_be_ended_keep_no_other_one(
    books: Books, other_books: Books, admin: Database
) -> None:
    unanswered, noted, following = books.intent(), books.intent(), other_books.intent()
    await books.reserve(unanswered)
    await books.reserve(noted)
    assert await books.checkpoint(noted, Produced(30, 5, "Two ye", "extractive"))
    async with admin.platform() as connection:  # as if something had lost the reserved amounts
        await connection.execute("UPDATE quota_periods SET tokens_reserved = 0")
    await books.expire(admin)
    await other_books.reserve(following)
    await other_books.expire(admin)
    async with admin.platform() as connection:
        await connection.execute(
            "UPDATE reservations SET expires_at = expires_at - $2::interval WHERE tenant_id = $1",
            books.context.tenant_id,
            _SECOND,
        )
    for stuck in (unanswered, noted):
        with capture_logs() as logs:
            assert await sweep_reservation(books.database)
        assert [entry["log_level"] for entry in logs] == ["error"]
        assert str(stuck.answer_id) in logs[0]["reason"]
    assert await other_books.count("reservations") == 1
    assert await sweep_reservation(books.database)
    assert await other_books.count("reservations") == 0
    assert not await sweep_reservation(books.database), "they are put off"
    async with admin.platform() as connection:
        due_in = await connection.fetch("SELECT expires_at - now() AS due_in FROM reservations")
    assert all(timedelta(minutes=9) < row["due_in"] <= timedelta(minutes=10) for row in due_in)
    assert len(due_in) == 2
    assert await books.count("ledger") == 0, "nothing of them was done by half"
    assert (await books.quota())["messages_reserved"] == 2
    assert (await books.quota())["tokens_used"] == 0


async def test_a_dead_answer_without_a_checkpoint_costs_nothing_and_keeps_its_question(
    books: Books, admin: Database
) -> None:
    intent = books.intent()
    await books.reserve(intent)
    await books.expire(admin)
    assert await sweep_reservation(books.database)
    assert set((await books.quota()).values()) == {0}
    assert await books.count("ledger") == 0
    assert await books.count("outbox") == 1
    following = books.intent(intent.conversation_id)
    await books.reserve(following)
    assert await books.settle(following, _ANSWER)


async def test_a_conversation_has_one_answer_at_a_time(books: Books) -> None:
    intent = books.intent()
    await books.reserve(intent)
    with pytest.raises(Conflict):
        await books.reserve(books.intent(intent.conversation_id))
    await books.settle(intent, _ANSWER)
    await books.reserve(books.intent(intent.conversation_id))


async def test_an_undone_question_leaves_no_trace(books: Books) -> None:
    kept = books.intent()
    await books.reserve(kept)
    await books.settle(kept, _ANSWER)
    for intent in (books.intent(), books.intent(kept.conversation_id)):
        await books.reserve(intent)
        await books.release(intent, undo=True)
        await books.release(intent, undo=True)
    assert await books.count("conversations") == 1
    assert await books.count("outbox") == 2
    async with books.database.tenant(books.context.tenant_id) as connection:
        assert await connection.fetchval("SELECT message_count FROM conversations") == 2
    assert (await books.quota())["messages_used"] == 1
    again = replace(books.intent(kept.conversation_id))
    await books.reserve(again)
