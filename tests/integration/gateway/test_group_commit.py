"""Answers that are booked together: each exactly once, and a bad one fails alone."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal

import pytest

from planes.shared.domain import ChatMode, new_id
from planes.shared.errors import (
    Conflict,
    Forbidden,
    NotFound,
    PlatformError,
    QuotaExceeded,
    Unavailable,
)
from planes.shared.stores.postgres import Database
from services.gateway.chat import booking
from services.gateway.chat.booking import Intent, Reservation, Settlement
from services.gateway.chat.group_commit import AnswerBooks
from tests.integration.gateway.test_reservations import _ANSWER, Books, admin, books

__all__ = ["admin", "books"]  # fixtures of their own module

_COST = 30 * Decimal("0.00000001") + 12 * Decimal("0.00000004")
_TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = 'test-gateway' AND state = 'active' AND wait_event_type = 'Lock'
"""
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@pytest.fixture
async def together(books: Books) -> AnswerBooks:
    return AnswerBooks(books.database)


@pytest.fixture
async def holder(database_urls: dict[str, str]) -> AsyncIterator[Database]:
    """Somebody else, who holds rows."""
    database = Database(database_urls["admin"], service="test-holder")
    await database.open()
    yield database
    await database.close()


async def _reserved(
    together: AnswerBooks, books: Books, intents: list[Intent]
) -> list[Reservation | BaseException]:
    reserving = (together.reserve(books.context, intent) for intent in intents)
    return await asyncio.gather(*reserving, return_exceptions=True)


async def _until_somebody_waits(admin: Database) -> None:
    async with asyncio.timeout(60), admin.platform() as connection:
        while not await connection.fetchval(_WAITING):
            await asyncio.sleep(0.005)


async def test_answers_booked_together_are_each_billed_once(
    together: AnswerBooks, books: Books
) -> None:
    intents = [books.intent() for _ in range(20)]
    reserved = await _reserved(together, books, intents)
    assert all(isinstance(each, Reservation) for each in reserved)
    assert (await books.quota())["messages_reserved"] == 20
    settling = (together.settle(books.context, i.answer_id, _settlement()) for i in intents)
    assert await asyncio.gather(*settling) == [_COST] * 20
    assert await books.count("ledger") == 20
    assert await books.count("outbox") == 40
    assert await books.quota() == {
        "messages_used": 20,
        "messages_reserved": 0,
        "tokens_used": 20 * 42,
        "tokens_reserved": 0,
    }


def _settlement() -> Settlement:
    """Return another settlement of the same answer."""
    return replace(_ANSWER, ledger_id=new_id())


async def test_in_a_group_each_is_told_its_own_refusal(together: AnswerBooks, books: Books) -> None:
    first = books.intent()
    await together.reserve(books.context, first)
    intents = [
        books.intent(),
        books.intent(new_id()),  # no such conversation
        books.intent(first.conversation_id),  # an answer is under way
        books.intent(),
    ]
    good, absent, busy, also_good = await _reserved(together, books, intents)
    assert isinstance(good, Reservation)
    assert isinstance(also_good, Reservation)
    assert isinstance(absent, NotFound)
    assert isinstance(busy, Conflict)
    assert await books.count("reservations") == 3


async def test_two_questions_of_one_group_in_one_conversation_are_not_both_answered(
    together: AnswerBooks, books: Books
) -> None:
    first = books.intent()
    await together.reserve(books.context, first)
    await together.settle(books.context, first.answer_id, _ANSWER)
    intents = [books.intent(first.conversation_id) for _ in range(2)]
    one, other = await _reserved(together, books, intents)
    assert sorted([isinstance(one, Conflict), isinstance(other, Conflict)]) == [False, True]


async def test_a_quota_that_covers_half_a_group_lets_that_half_pass(
    together: AnswerBooks, books: Books, admin: Database
) -> None:
    async with admin.platform() as connection:
        await connection.execute("UPDATE plans SET messages_per_month = 5")
    reserved = await _reserved(together, books, [books.intent() for _ in range(10)])
    assert sum(isinstance(each, Reservation) for each in reserved) == 5
    assert (await books.quota())["messages_reserved"] == 5


class TestExistingConversations:
    """Where nothing is in the way of any, a group is booked by one way; else by another."""

    @pytest.fixture
    async def begun(self, books: Books) -> list[Intent]:
        """Eight conversations with a question and its answer each."""
        intents = [books.intent() for _ in range(8)]
        for intent in intents:
            await books.reserve(intent)
            await books.settle(intent, _settlement())
        return intents

    async def test_a_group_is_booked_exactly(
        self, begun: list[Intent], together: AnswerBooks, books: Books, admin: Database
    ) -> None:
        intents = [books.intent(each.conversation_id) for each in begun]
        reserved = await _reserved(together, books, intents)
        for before, reservation in zip(begun, reserved, strict=True):
            assert isinstance(reservation, Reservation)
            assert reservation.question_seq == 3
            assert reservation.last_answer == before.message_id
        assert await books.quota() == {
            "messages_used": 8,
            "messages_reserved": 8,
            "tokens_used": 8 * 42,
            "tokens_reserved": 8 * 1200,
        }
        settling = (together.settle(books.context, i.answer_id, _settlement()) for i in intents)
        assert await asyncio.gather(*settling) == [_COST] * 8
        async with admin.platform() as connection:
            assert not await connection.fetch("SELECT * FROM ledger_differences()")
            stored = await connection.fetch(
                "SELECT conversation_id, array_agg(seq ORDER BY seq) AS numbers, "
                "count(held_by) AS held FROM outbox GROUP BY 1"
            )
            counted = await connection.fetch("SELECT message_count, last_answer FROM conversations")
            noted = await connection.fetchval("SELECT count(*) FROM answers")
        assert [(row["numbers"], row["held"]) for row in stored] == [([1, 2, 3, 4], 0)] * 8
        assert {row["message_count"] for row in counted} == {4}
        assert {row["last_answer"] for row in counted} == {each.message_id for each in intents}
        assert noted == 16
        assert await books.count("ledger") == 16

    async def test_a_plan_without_limits_is_counted_from_the_months_first_question_on(
        self, begun: list[Intent], together: AnswerBooks, books: Books, admin: Database
    ) -> None:
        async with admin.platform() as connection:
            await connection.execute("UPDATE tenants SET plan = 'enterprise'")
            await connection.execute("DELETE FROM quota_periods")  # nothing was asked this month
        intents = [books.intent(each.conversation_id) for each in begun]
        reserved = await _reserved(together, books, intents)
        assert all(isinstance(each, Reservation) for each in reserved)
        assert (await books.quota())["messages_reserved"] == 8
        settling = (together.settle(books.context, i.answer_id, _settlement()) for i in intents)
        assert await asyncio.gather(*settling) == [_COST] * 8
        assert await books.quota() == {
            "messages_used": 8,
            "messages_reserved": 0,
            "tokens_used": 8 * 42,
            "tokens_reserved": 0,
        }

    async def test_both_ways_find_the_same(
        self, begun: list[Intent], together: AnswerBooks, books: Books
    ) -> None:
        one, other = [books.intent(each.conversation_id) for each in begun[:2]]
        absent = replace(books.intent(new_id()), title=None)
        (by_sets,) = await _reserved(together, books, [one])
        one_by_one, refused = await _reserved(together, books, [other, absent])
        assert isinstance(refused, NotFound)
        assert isinstance(by_sets, Reservation)
        assert isinstance(one_by_one, Reservation)
        assert one_by_one.last_answer == begun[1].message_id
        assert replace(by_sets, last_answer=None) == replace(one_by_one, last_answer=None)

    @pytest.mark.parametrize(
        "limit", ["messages_per_month = 8 + 3", "tokens_per_month = 8 * 42 + 3 * 1200"]
    )
    async def test_a_quota_lets_as_many_pass_as_it_covers(
        self,
        begun: list[Intent],
        together: AnswerBooks,
        books: Books,
        admin: Database,
        limit: str,
    ) -> None:
        async with admin.platform() as connection:
            await connection.execute(f"UPDATE plans SET {limit}")  # noqa: S608 (given above)
        intents = [books.intent(each.conversation_id) for each in begun]
        reserved = await _reserved(together, books, intents)
        assert sum(isinstance(each, Reservation) for each in reserved) == 3
        assert sum(isinstance(each, QuotaExceeded) for each in reserved) == 5
        assert (await books.quota())["messages_reserved"] == 3

    async def test_others_conversations_are_absent(
        self, begun: list[Intent], together: AnswerBooks, books: Books
    ) -> None:
        stranger = replace(books.context, user_id=new_id())
        intents = [books.intent(each.conversation_id) for each in begun]
        asked = [(stranger if number == 3 else books.context) for number in range(8)]
        reserving = (
            together.reserve(context, intent)
            for context, intent in zip(asked, intents, strict=True)
        )
        reserved = await asyncio.gather(*reserving, return_exceptions=True)
        assert isinstance(reserved.pop(3), NotFound)
        assert all(isinstance(each, Reservation) for each in reserved)

    async def test_a_plan_without_open_chat_refuses_it(
        self, begun: list[Intent], together: AnswerBooks, books: Books, admin: Database
    ) -> None:
        async with admin.platform() as connection:
            await connection.execute("UPDATE plans SET features = '{}'")
        intents = [
            replace(
                books.intent(each.conversation_id),
                mode=ChatMode.OPEN if number == 0 else ChatMode.RAG,
            )
            for number, each in enumerate(begun)
        ]
        refused, *others = await _reserved(together, books, intents)
        assert isinstance(refused, Forbidden)
        assert all(isinstance(each, Reservation) for each in others)


async def test_a_conversation_that_somebody_holds_keeps_its_own_question_alone_waiting(
    together: AnswerBooks, books: Books, holder: Database
) -> None:
    held = books.intent()
    await together.reserve(books.context, held)
    await together.settle(books.context, held.answer_id, _ANSWER)
    async with holder.platform() as connection, connection.transaction():
        await connection.execute(
            "SELECT FROM conversations WHERE id = $1 FOR UPDATE", held.conversation_id
        )
        again = books.intent(held.conversation_id)
        waits = asyncio.create_task(together.reserve(books.context, again))
        others = await _reserved(together, books, [books.intent() for _ in range(5)])
        assert all(isinstance(each, Reservation) for each in others)
        assert not waits.done()
    assert isinstance(await waits, Reservation)


async def test_a_settlement_that_the_database_refuses_fails_alone(
    together: AnswerBooks, books: Books
) -> None:
    intents = [books.intent() for _ in range(4)]
    await _reserved(together, books, intents)
    bad = replace(_ANSWER, payload={**_ANSWER.payload, "content": "\x00"}, ledger_id=new_id())
    settlements = [_settlement(), bad, _settlement(), _settlement()]
    settling = (
        together.settle(books.context, intent.answer_id, settlement)
        for intent, settlement in zip(intents, settlements, strict=True)
    )
    costs = await asyncio.gather(*settling, return_exceptions=True)
    assert isinstance(costs.pop(1), Exception)
    assert costs == [_COST] * 3
    assert await books.count("ledger") == 3
    assert await books.count("reservations") == 1


async def test_a_settlement_waits_for_a_sweep_that_came_before_it(
    together: AnswerBooks, books: Books, admin: Database, holder: Database
) -> None:
    intent = books.intent()
    await together.reserve(books.context, intent)

    async def settle() -> Decimal | None:
        async with books.database.platform() as connection:
            return await booking.settle(connection, books.context, intent.answer_id, _settlement())

    async with holder.platform() as connection, connection.transaction():
        await connection.execute("SELECT FROM reservations FOR UPDATE")  # as a sweep begins
        settling = asyncio.create_task(settle())
        await _until_somebody_waits(admin)
        await connection.execute(  # as it goes on; neither waits for the other in a circle
            "SELECT FROM conversations WHERE id = $1 FOR UPDATE", intent.conversation_id
        )
    assert await settling == _COST


async def test_a_settlement_whose_caller_is_cancelled_is_booked_once(
    together: AnswerBooks, books: Books
) -> None:
    intents = [books.intent() for _ in range(3)]
    await _reserved(together, books, intents)
    settling = [
        asyncio.create_task(together.settle(books.context, i.answer_id, _settlement()))
        for i in intents
    ]
    await asyncio.sleep(0)
    for task in settling[:2]:
        task.cancel()
    assert await settling[2] == _COST
    async with asyncio.timeout(60):
        while await books.count("ledger") < 3:
            await asyncio.sleep(0.01)
    assert (await books.quota())["messages_used"] == 3


async def test_a_reservation_whose_caller_is_cancelled_is_taken_back(
    together: AnswerBooks, books: Books
) -> None:
    asked = asyncio.create_task(together.reserve(books.context, books.intent()))
    await asyncio.sleep(0)
    asked.cancel()
    await together.reserve(books.context, books.intent())
    async with asyncio.timeout(60):
        while await books.count("reservations") > 1:
            await asyncio.sleep(0.01)
    assert (await books.quota())["messages_reserved"] == 1
    assert await books.count("conversations") == 1


async def test_a_group_whose_server_process_dies_is_settled_once_when_repeated(
    together: AnswerBooks, books: Books, admin: Database, holder: Database
) -> None:
    intents = [books.intent() for _ in range(3)]
    await _reserved(together, books, intents)
    settlements = [_settlement() for _ in intents]

    async def settle_all() -> list[Decimal | BaseException | None]:
        settling = (
            together.settle(books.context, intent.answer_id, settlement)
            for intent, settlement in zip(intents, settlements, strict=True)
        )
        return await asyncio.gather(*settling, return_exceptions=True)

    async with holder.platform() as connection, connection.transaction():
        await connection.execute("SELECT FROM quota_periods FOR UPDATE")
        settling = asyncio.create_task(settle_all())
        await _until_somebody_waits(admin)
        async with admin.platform() as other:
            await other.execute(_TERMINATE)
        await asyncio.sleep(0)
    first = await settling
    assert all(isinstance(each, Unavailable | Decimal) for each in first)
    assert await settle_all() == [_COST] * 3
    assert await books.count("ledger") == 3
    assert (await books.quota())["messages_used"] == 3


async def test_groups_of_two_processes_do_not_lock_one_another_out(
    books: Books, admin: Database, database_urls: dict[str, str]
) -> None:
    other = Database(database_urls["gateway"], service="test-other")
    await other.open()
    gateways = [AnswerBooks(books.database), AnswerBooks(other)]
    intents = [books.intent() for _ in range(40)]

    async def book(number: int, intent: Intent) -> Decimal | None:
        gateway = gateways[number % 2]
        await gateway.reserve(books.context, intent)
        return await gateway.settle(books.context, intent.answer_id, _settlement())

    try:
        costs = await asyncio.gather(*(book(*each) for each in enumerate(intents)))
    except PlatformError as error:
        pytest.fail(error.detail)
    finally:
        await other.close()
    assert costs == [_COST] * 40
    async with admin.platform() as connection:
        assert not await connection.fetch("SELECT * FROM ledger_differences()")
