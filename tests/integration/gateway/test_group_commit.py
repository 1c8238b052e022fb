"""Answers that are booked together: each exactly once, and a bad one fails alone."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal

import pytest

from planes.shared.domain import new_id
from planes.shared.errors import Conflict, NotFound, PlatformError, Unavailable
from planes.shared.stores.postgres import Database
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
