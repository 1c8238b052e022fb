"""The books beside the ladder: each group is paid for once, and a wrong balance is found."""

import json
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import text

from services.embedded.schema import owner_connection
from tests.benchmarks.gateway.books import (
    DEBIT,
    RESERVE,
    SETTLE,
    START_TOKENS,
    BooksWrong,
    check_books,
    open_books,
)

pytestmark = pytest.mark.integration

ACME, GLOBEX = UUID(int=1), UUID(int=2)


@pytest.fixture
def url(database_urls: dict[str, str]) -> str:
    open_books(database_urls["admin"], [ACME, GLOBEX])
    return database_urls["admin"]


async def reserve(url: str, *asked: tuple[UUID, int]) -> list[UUID]:
    rows = [(uuid4(), tenant, uuid4(), uuid4(), tokens, "?") for tenant, tokens in asked]
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetch(RESERVE, *map(list, zip(*rows, strict=True)))
    finally:
        await connection.close()
    return [row["id"] for row in found]


async def settle(url: str, answers: list[UUID]) -> None:
    rows = [(each, "m", 40, 7, json.dumps({"content": "!"})) for each in answers]
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(SETTLE, *map(list, zip(*rows, strict=True)))
    finally:
        await connection.close()


def balances(url: str, schema: str) -> dict[UUID, int]:
    with owner_connection(url) as owner:
        rows = owner.execute(text(f"SELECT tenant_id, tokens FROM {schema}.balances"))  # noqa: S608
        return {UUID(str(tenant)): START_TOKENS - tokens for tenant, tokens in rows}


async def test_a_group_is_reserved_and_settled_once(url: str) -> None:
    answers = await reserve(url, (ACME, 100), (GLOBEX, 100), (ACME, 100))
    assert len(answers) == 3
    assert balances(url, "bare") == {ACME: 200, GLOBEX: 100}
    check_books(url)
    await settle(url, answers)
    await settle(url, answers)
    assert balances(url, "bare") == {ACME: 94, GLOBEX: 47}
    check_books(url)


async def test_who_cannot_pay_reserves_nothing(url: str) -> None:
    assert len(await reserve(url, (ACME, START_TOKENS + 1), (GLOBEX, 1))) == 1
    assert balances(url, "bare") == {ACME: 0, GLOBEX: 1}


async def test_a_debit_has_its_row_and_a_balance_without_one_is_found(url: str) -> None:
    connection = await asyncpg.connect(url)
    debit, row = DEBIT
    try:
        async with connection.transaction():
            assert await connection.execute(debit, ACME, 5) == "UPDATE 1"
            await connection.execute(row, uuid4(), ACME, uuid4(), 5)
        check_books(url)
        await connection.execute(debit, GLOBEX, 5)
    finally:
        await connection.close()
    with pytest.raises(BooksWrong, match="differ for 1 tenants"):
        check_books(url)


async def test_a_quota_of_the_product_without_its_ledger_is_found(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("INSERT INTO tenants (id, name) VALUES ($1, 'acme')", ACME)
        await connection.execute(
            "INSERT INTO quota_periods (tenant_id, period, messages_used) "
            "VALUES ($1, current_period(), 1)",
            ACME,
        )
    finally:
        await connection.close()
    with pytest.raises(BooksWrong, match="quota and ledger differ in 1 figures"):
        check_books(url)
