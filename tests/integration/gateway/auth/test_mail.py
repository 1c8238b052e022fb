"""Verification of addresses and new passwords by mail, over a real SMTP server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest

from planes.shared.stores.postgres import Connection, Database
from services.gateway.app import create_app
from tests.integration.gateway.auth.mailbox import Mailbox, open_mailbox
from tests.integration.gateway.conftest import PASSWORD, Gateway, served, until

pytestmark = pytest.mark.integration

NEW_PASSWORD = "nine ravens over the chimney"
VERIFICATION = pytest.mark.parametrize("verifies", [True], indirect=True)


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with open_mailbox() as mailbox:
        yield mailbox


@pytest.fixture
def verifies(request: pytest.FixtureRequest) -> bool:
    return getattr(request, "param", False)


@pytest.fixture
def overrides(mailbox: Mailbox, verifies: bool) -> dict[str, object]:
    return {
        "smtp_host": "127.0.0.1",
        "smtp_port": mailbox.port,
        "smtp_tls": "none",
        "mail_from": "Polyplane <noreply@polyplane.example>",
        "public_url": "https://chat.example.com",
        "email_verification": verifies,
    }


@pytest.fixture
async def http(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as http:
        yield http


def address() -> str:
    return f"{uuid4().hex}@example.com"


async def register(http: httpx.AsyncClient, email: str) -> httpx.Response:
    return await http.post("/auth/register", json={"email": email, "password": PASSWORD})


async def login(http: httpx.AsyncClient, email: str, password: str = PASSWORD) -> httpx.Response:
    return await http.post("/auth/login", json={"email": email, "password": password})


async def reset(http: httpx.AsyncClient, token: str, password: str = NEW_PASSWORD) -> int:
    body = {"token": token, "new_password": password}
    return (await http.post("/auth/password/reset", json=body)).status_code


async def forgot(http: httpx.AsyncClient, email: str) -> httpx.Response:
    return await http.post("/auth/password/forgot", json={"email": email})


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Connection]:
    database = Database(url, service="test")
    await database.open()
    try:
        async with database.platform() as connection:
            yield connection
    finally:
        await database.close()


async def outbox_is_empty(urls: dict[str, str]) -> bool:
    async with opened(urls["admin"]) as connection:
        return not await connection.fetchval("SELECT count(*) FROM mail_outbox")


def bearer(answer: httpx.Response) -> dict[str, str]:
    return {"authorization": f"Bearer {answer.json()['access_token']}"}


def shown(answer: httpx.Response) -> dict[str, object]:
    return {**answer.json(), "trace_id": ""}


@VERIFICATION
async def test_a_new_account_signs_in_once_its_address_is_confirmed(
    http: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    email = address()
    answer = await register(http, email)
    assert answer.status_code == 202
    assert "token" not in answer.text
    token = await mailbox.token(email, "Confirm")
    before, stranger = await login(http, email), await login(http, address())
    assert before.status_code == stranger.status_code == 401
    assert before.json()["detail"] == stranger.json()["detail"]
    assert await mailbox.token(email, "Confirm") != token  # the sign-in asked for another
    assert (await http.post("/auth/verify", json={"token": token})).status_code == 204
    after = await login(http, email)
    assert after.status_code == 200
    me = (await http.get("/auth/me", headers=bearer(after))).json()
    assert me["user"]["email"] == email
    assert me["user"]["role"] == "owner"
    assert (await http.post("/auth/verify", json={"token": token})).status_code == 400


@VERIFICATION
async def test_a_wrong_password_does_not_tell_that_an_address_is_unconfirmed(
    http: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    email = address()
    await register(http, email)
    await mailbox.letter(email)
    wrong = await login(http, email, "another password altogether")
    unknown = await login(http, address(), "another password altogether")
    assert wrong.status_code == unknown.status_code == 401
    assert shown(wrong) == shown(unknown)


@VERIFICATION
async def test_registering_a_known_address_answers_as_for_a_new_one(
    http: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    email = address()
    first = await register(http, email)
    await mailbox.letter(email, "Confirm")
    body = {"email": email.upper(), "password": "somebody else knows this one"}
    again = await http.post("/auth/register", json=body)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    letter = await mailbox.letter(email, "You already have an account")  # that mailbox is known
    assert "token" not in letter.get_content()
    assert (await login(http, email, body["password"])).status_code == 401


@VERIFICATION
async def test_parallel_registrations_of_one_address_leave_one_account(
    http: httpx.AsyncClient, mailbox: Mailbox, database_urls: dict[str, str]
) -> None:
    email = address()
    answers = await asyncio.gather(*(register(http, email) for _ in range(3)))
    assert [answer.status_code for answer in answers] == [202] * 3
    for _ in range(3):
        await mailbox.letter(email)
    async with opened(database_urls["admin"]) as connection:
        assert await connection.fetchval("SELECT count(*) FROM users") == 1


@VERIFICATION
async def test_how_sign_ins_are_counted_does_not_tell_that_an_address_was_free(
    http: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    email = address()
    await register(http, email)
    await mailbox.letter(email)
    codes = [(await login(http, email)).status_code for _ in range(11)]
    assert codes == [401] * 10 + [429]  # as for the wrong password of a taken address


@VERIFICATION
async def test_how_mails_are_counted_does_not_tell_that_an_address_was_free(
    http: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    email = address()
    await register(http, email)
    await mailbox.letter(email)
    for _ in range(3):
        await login(http, email)  # right, and so a mail is due
    codes = [(await forgot(http, email)).status_code for _ in range(3)]
    assert codes == [202, 202, 429]


async def test_a_forgotten_password_is_replaced_once(
    http: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    email = address()
    account = await register(http, email)
    assert (await forgot(http, email.upper())).status_code == 202
    token = await mailbox.token(email, "new password")
    assert await reset(http, token, "password" * 3) == 422  # refused, and the token goes on
    assert await reset(http, token) == 204
    assert await reset(http, token) == 400
    refresh = {"refresh_token": account.json()["refresh_token"]}
    assert (await http.post("/auth/refresh", json=refresh)).status_code == 401
    assert (await http.get("/auth/me", headers=bearer(account))).status_code == 401
    assert (await login(http, email)).status_code == 401
    assert (await login(http, email, NEW_PASSWORD)).status_code == 200


async def test_of_parallel_uses_of_a_token_one_wins(
    http: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    email = address()
    await register(http, email)
    await forgot(http, email)
    token = await mailbox.token(email)
    passwords = [f"{NEW_PASSWORD} number {n}" for n in range(10)]
    codes = await asyncio.gather(*(reset(http, token, each) for each in passwords))
    assert sorted(codes) == [204] + [400] * 9
    assert (await login(http, email, passwords[codes.index(204)])).status_code == 200


async def test_a_changed_password_voids_what_was_mailed_before(
    http: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    email = address()
    account = await register(http, email)
    tokens = []
    for _ in range(2):
        await forgot(http, email)
        tokens.append(await mailbox.token(email))
    assert await reset(http, tokens[0]) == 204
    assert await reset(http, tokens[1], PASSWORD) == 400
    await forgot(http, email)
    token = await mailbox.token(email)
    account = await login(http, email, NEW_PASSWORD)
    body = {"current_password": NEW_PASSWORD, "new_password": PASSWORD}
    changed = await http.post("/auth/password", json=body, headers=bearer(account))
    assert changed.status_code == 204
    assert await reset(http, token) == 400


async def test_tokens_expire_and_are_good_for_one_purpose(
    http: httpx.AsyncClient, mailbox: Mailbox, database_urls: dict[str, str]
) -> None:
    email = address()
    await register(http, email)
    await forgot(http, email)
    token = await mailbox.token(email)
    assert (await http.post("/auth/verify", json={"token": token})).status_code == 400
    async with opened(database_urls["admin"]) as connection:
        stored = await connection.fetchrow("SELECT * FROM user_tokens")
        assert token not in str(dict(stored))
        await connection.execute("UPDATE user_tokens SET expires_at = now()")
    assert await reset(http, token) == 400


async def test_known_and_unknown_addresses_get_the_same_answer_and_only_one_a_mail(
    http: httpx.AsyncClient, mailbox: Mailbox, database_urls: dict[str, str]
) -> None:
    email = address()
    await register(http, email)
    known, unknown = await forgot(http, email), await forgot(http, address())
    assert (known.status_code, known.json()) == (unknown.status_code, unknown.json())
    await mailbox.letter(email)
    await until(lambda: outbox_is_empty(database_urls))
    assert mailbox.letters == []


async def test_an_address_is_not_flooded_with_mail(http: httpx.AsyncClient) -> None:
    email = address()
    codes = [(await forgot(http, email)).status_code for _ in range(5)]
    assert codes == [202] * 3 + [429] * 2
    assert (await forgot(http, email.upper())).headers["retry-after"]


async def test_mail_waits_while_the_server_does_not_take_it(
    http: httpx.AsyncClient, mailbox: Mailbox, database_urls: dict[str, str]
) -> None:
    mailbox.refusal = "451 try again later"
    email = address()
    await register(http, email)
    await forgot(http, email)

    async def was_tried() -> bool:
        return mailbox.attempts > 0

    await until(was_tried)
    mailbox.refusal = None
    async with opened(database_urls["admin"]) as connection:
        await connection.execute("UPDATE mail_outbox SET due_at = now()")
    assert await reset(http, await mailbox.token(email)) == 204
    await until(lambda: outbox_is_empty(database_urls))


@pytest.mark.parametrize("how", ["refused for good", "a day old"])
async def test_mail_is_given_up_when_it_is_hopeless(
    how: str, http: httpx.AsyncClient, mailbox: Mailbox, database_urls: dict[str, str]
) -> None:
    mailbox.refusal = "554 no" if how == "refused for good" else "451 try again later"
    email = address()
    await register(http, email)
    await forgot(http, email)

    async def was_tried() -> bool:
        return mailbox.attempts > 0

    await until(was_tried)
    if how == "a day old":
        async with opened(database_urls["admin"]) as connection:
            await connection.execute(
                "UPDATE mail_outbox SET created_at = created_at - $1::interval, due_at = now()",
                timedelta(hours=25),
            )
    await until(lambda: outbox_is_empty(database_urls))
    assert mailbox.letters == []


async def test_two_gateways_send_each_mail_once(
    gateway: Gateway,
    http: httpx.AsyncClient,
    mailbox: Mailbox,
    database_urls: dict[str, str],
) -> None:
    second = create_app(gateway.app.state.settings)
    emails = [address() for _ in range(10)]
    async with served(second):
        for email in emails:
            await register(http, email)
        await asyncio.gather(*(forgot(http, email) for email in emails))
        for email in emails:
            await mailbox.letter(email)
        await until(lambda: outbox_is_empty(database_urls))
    assert mailbox.letters == []


async def test_who_reads_the_mail_of_an_address_has_it_confirmed(
    http: httpx.AsyncClient, mailbox: Mailbox, database_urls: dict[str, str]
) -> None:
    email = address()
    await register(http, email)
    await forgot(http, email)
    assert await reset(http, await mailbox.token(email)) == 204
    async with opened(database_urls["admin"]) as connection:
        assert await connection.fetchval("SELECT email_verified_at FROM users") is not None


async def test_a_disabled_account_gets_no_mail(
    http: httpx.AsyncClient, mailbox: Mailbox, database_urls: dict[str, str]
) -> None:
    email = address()
    await register(http, email)
    await forgot(http, email)
    token = await mailbox.token(email)
    async with opened(database_urls["admin"]) as connection:
        await connection.execute("UPDATE users SET disabled_at = now()")
    assert await reset(http, token) == 400
    assert (await forgot(http, email)).status_code == 202
    await until(lambda: outbox_is_empty(database_urls))
    assert mailbox.letters == []


async def test_letters_are_plain_text_from_the_operator(
    http: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    email = address()
    await register(http, email)
    await forgot(http, email)
    letter = await mailbox.letter(email)
    assert letter["from"] == "Polyplane <noreply@polyplane.example>"
    assert letter.get_content_type() == "text/plain"
    assert letter["auto-submitted"] == "auto-generated"
    assert "POST https://chat.example.com/auth/password/reset" in letter.get_content()
