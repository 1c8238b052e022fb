"""Quota rows that reservations had passed by are written anew; what is under way can be settled."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import asyncpg
import orjson
import pytest
from sqlalchemy import text

from planes.shared.stores import migrations
from services.embedded.postgres import Postgres
from services.embedded.schema import owner_connection

pytestmark = pytest.mark.integration

_MEMBER = """
WITH t AS (INSERT INTO tenants (id, name, plan) VALUES ($1, 'acme', 'enterprise'))
INSERT INTO users (id, email, email_key, password_hash, display_name)
VALUES ($2, 'a@example.com', 'a@example.com', '', 'Ada')
"""
_CONVERSATION = """
INSERT INTO conversations (id, tenant_id, user_id, title, mode, message_count)
VALUES ($3, $1, $2, 'a title', 'rag', 0)
"""
_RESERVE = "SELECT status FROM reserve_group($1, NULL, $2)"
_SETTLE = "SELECT cost_usd FROM settle_answers($1, NULL)"


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """The owner's address of a database of the revision before."""
    name = f"test_{uuid4().hex}"
    with owner_connection(postgres.url("postgres")) as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    migrations.upgrade(postgres.url(name), revision="0013")
    yield postgres.url(name)
    with owner_connection(postgres.url("postgres")) as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


async def test_rows_that_were_passed_by_are_mended(url: str) -> None:
    owner, tenant, user, answer = await asyncpg.connect(url), uuid4(), uuid4(), uuid4()
    try:
        await owner.execute(_MEMBER, tenant, user)
        conversation = uuid4()
        await owner.execute(_CONVERSATION, tenant, user, conversation)
        asked = {
            "number": 0,
            "tenant_id": tenant,
            "user_id": user,
            "answer_id": answer,
            "conversation_id": conversation,
            "question_id": uuid4(),
            "question": "How long?",
            "message_id": uuid4(),
            "model": "extractive",
            "max_prompt_tokens": 1000,
            "max_tokens": 200,
            "is_listed": True,
        }
        minute = timedelta(minutes=1)
        assert await owner.fetchval(_RESERVE, _json(asked), minute) == "reserved"
        assert not await owner.fetch("SELECT FROM quota_periods")
        migrations.upgrade(url)
        assert await owner.fetchval("SELECT messages_reserved FROM quota_periods") == 1
        settled = {
            "number": 0,
            "tenant_id": tenant,
            "answer_id": answer,
            "ledger_id": uuid4(),
            "model": "extractive",
            "prompt_tokens": 30,
            "completion_tokens": 12,
            "payload": {},
        }
        assert await owner.fetchval(_SETTLE, _json(settled)) is not None
        rows = await owner.fetch("SELECT messages_reserved, messages_used FROM quota_periods")
        assert [tuple(row) for row in rows] == [(0, 1)]
        assert not await owner.fetch("SELECT * FROM ledger_differences()")
    finally:
        await owner.close()


def _json(item: dict[str, object]) -> str:
    return orjson.dumps([item]).decode()
