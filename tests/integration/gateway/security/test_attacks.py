"""Attacks that once succeeded: each of these tests is the proof of a hole that is closed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from tests.integration.gateway.auth.mailbox import Mailbox, open_mailbox
from tests.integration.gateway.conftest import PASSWORD, Gateway, Person, until
from tests.integration.gateway.security.conftest import some_address
from tests.integration.gateway.tenants.conftest import accept, email_of, invite, switch

pytestmark = pytest.mark.integration

NEW_PASSWORD = "nine ravens over the chimney"


@pytest.fixture
async def http(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"x-forwarded-for": some_address()}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=30) as http:
        yield http


@pytest.fixture
async def admin(database_urls: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_urls["admin"])
    yield connection
    await connection.close()


def bearer(credential: str) -> dict[str, str]:
    return {"authorization": f"Bearer {credential}"}


async def key_of(http: httpx.AsyncClient, maker: dict[str, str], scope: str) -> dict[str, str]:
    """Make an API key; return the header that presents it."""
    body = {"name": "import", "scopes": [scope]}
    answer = await http.post("/auth/api-keys", json=body, headers=maker)
    assert answer.status_code == 201, answer.text
    return bearer(answer.json()["key"])


async def test_a_key_of_an_owner_makes_and_unmakes_no_owners(
    http: httpx.AsyncClient, person: Person, stranger: Person
) -> None:
    maker = {"authorization": person.http.headers["authorization"]}
    key = await key_of(http, maker, "tenant:write")
    email = await email_of(stranger)
    for role, status in (("owner", 403), ("admin", 201)):
        body = {"email": email, "role": role}
        answer = await http.post("/tenant/invitations", json=body, headers=key)
        assert answer.status_code == status, answer.text
    assert (await accept(stranger, answer.json()["token"])).status_code == 200
    for member, role in ((stranger, "owner"), (person, "viewer")):
        path = f"/tenant/members/{member.user_id}"
        assert (await http.patch(path, json={"role": role}, headers=key)).status_code == 403
    path = f"/tenant/members/{stranger.user_id}"
    assert (await http.patch(path, json={"role": "viewer"}, headers=key)).status_code == 200
    owner = f"/tenant/members/{person.user_id}"
    for member, status in ((owner, 403), (path, 204), (path, 404)):
        assert (await http.delete(member, headers=key)).status_code == status


async def test_a_key_of_a_viewer_removes_nobody_its_maker_included(
    http: httpx.AsyncClient, person: Person, stranger: Person
) -> None:
    token = (await invite(person, await email_of(stranger), "viewer")).json()["token"]
    assert (await accept(stranger, token)).status_code == 200
    assert (await switch(stranger, person.tenant_id)).status_code == 200
    maker = {"authorization": stranger.http.headers["authorization"]}
    key = await key_of(http, maker, "tenant:write")
    for user_id in (stranger.user_id, person.user_id):
        answer = await http.delete(f"/tenant/members/{user_id}", headers=key)
        assert answer.status_code == 403
    assert (await stranger.http.delete(f"/tenant/members/{stranger.user_id}")).status_code == 204


class TestMail:
    """Where the platform sends mail, and does not ask for a confirmation."""

    @pytest.fixture
    async def mailbox(self) -> AsyncIterator[Mailbox]:
        async with open_mailbox() as mailbox:
            yield mailbox

    @pytest.fixture
    def overrides(self, mailbox: Mailbox) -> dict[str, object]:
        return {
            "smtp_host": "127.0.0.1",
            "smtp_port": mailbox.port,
            "smtp_tls": "none",
            "mail_from": "Polyplane <noreply@polyplane.example>",
            "public_url": "https://chat.example.com",
            "trusted_proxies": "127.0.0.1",
        }

    async def test_who_held_an_account_before_its_password_was_reset_keeps_no_key(
        self, http: httpx.AsyncClient, mailbox: Mailbox
    ) -> None:
        email = f"{uuid4().hex}@example.com"
        body = {"email": email, "password": PASSWORD}
        squatter = await http.post("/auth/register", json=body)
        key = await key_of(http, bearer(squatter.json()["access_token"]), "documents:read")
        assert (await http.get("/documents", headers=key)).status_code == 200

        await self._reset(http, mailbox, email)
        assert (await http.get("/documents", headers=key)).status_code == 401

        body = {"email": email, "password": NEW_PASSWORD}
        owner = await http.post("/auth/login", json=body)
        key = await key_of(http, bearer(owner.json()["access_token"]), "documents:read")
        await self._reset(http, mailbox, email)  # a thief of the password may have made it
        assert (await http.get("/documents", headers=key)).status_code == 401

    async def test_an_address_is_not_flooded_by_the_invitations_of_many_tenants(
        self, person: Person, stranger: Person
    ) -> None:
        victim = f"{uuid4().hex}@example.com"
        for inviter in (person, stranger, person):
            assert (await invite(inviter, victim)).status_code == 201
        refused = await invite(stranger, victim.upper())
        assert refused.status_code == 429
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert (await invite(stranger, f"{uuid4().hex}@example.com")).status_code == 201

    @staticmethod
    async def _reset(http: httpx.AsyncClient, mailbox: Mailbox, email: str) -> None:
        await http.post("/auth/password/forgot", json={"email": email})
        body = {"token": await mailbox.token(email), "new_password": NEW_PASSWORD}
        assert (await http.post("/auth/password/reset", json=body)).status_code == 204


async def test_an_account_that_is_being_deleted_becomes_a_member_nowhere(
    person: Person, stranger: Person, admin: asyncpg.Connection
) -> None:
    token = (await invite(person, await email_of(stranger), "owner")).json()["token"]
    user_id = UUID(stranger.user_id)

    async def waits_for_us() -> bool:
        query = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
        return bool(await admin.fetchval(query))

    async with admin.transaction():  # what the deletion of an account does last
        await admin.execute(
            "UPDATE users SET email_key = 'deleted:' || id, deleted_at = now() WHERE id = $1",
            user_id,
        )
        accepting = asyncio.create_task(accept(stranger, token))
        await until(waits_for_us)
    assert (await accepting).status_code == 403
    tenants = await admin.fetch("SELECT tenant_id FROM memberships WHERE user_id = $1", user_id)
    assert [str(row["tenant_id"]) for row in tenants] == [stranger.tenant_id]


@pytest.mark.parametrize("count", [200, 100_000])
async def test_however_many_mistakes_a_body_has_the_answer_is_short(
    http: httpx.AsyncClient, person: Person, count: int
) -> None:
    unknown = dict.fromkeys(map(str, range(count)), 0)
    known = {"email": "ada@example.com", "password": PASSWORD}
    answer = await http.post("/auth/login", json=known | unknown)
    assert answer.status_code == 422
    assert len(answer.content) < 1000
    answer = await person.http.post("/auth/api-keys", json={"name": "k", "scopes": ["x"] * count})
    assert answer.status_code == 422
    assert len(answer.content) < 20_000


async def test_a_key_that_outlives_the_calendar_is_refused(person: Person) -> None:
    body = {"name": "k", "scopes": ["chat"], "expires_at": "9999-12-31T23:59:59-12:00"}
    answer = await person.http.post("/auth/api-keys", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/body/expires_at"


async def test_who_deleted_a_document_stands_in_the_audit_log(person: Person) -> None:
    made = await person.http.post("/documents", files={"file": ("a.txt", b"hello")})
    document_id = made.json()["document"]["id"]
    receipt = (await person.http.delete(f"/documents/{document_id}")).json()["receipt_id"]
    acts = await person.http.get("/tenant/audit", params={"action": "document.deleted"})
    [act] = acts.json()["items"]
    assert act["actor"]["id"] == person.user_id
    assert act["subject"] == f"document:{document_id}"
    assert act["details"] == {"receipt": receipt}


async def test_one_tenant_does_not_keep_others_from_printing_their_invoices(
    person: Person, stranger: Person
) -> None:
    paths = {}
    for who in (person, stranger):
        assert (await who.http.post("/chat", json={"message": "What is due?"})).is_success
        [invoice] = (await who.http.get("/billing/invoices")).json()["items"]
        paths[who.tenant_id] = f"/billing/invoices/{invoice['id']}?format=pdf"
    many = [person.http.get(paths[person.tenant_id], timeout=60) for _ in range(20)]
    *flood, other = await asyncio.gather(
        *many, stranger.http.get(paths[stranger.tenant_id], timeout=60)
    )
    assert other.status_code == 200
    assert Counter(answer.status_code for answer in flood) == {200: 1, 429: 19}
    assert all("retry-after" in answer.headers for answer in flood if answer.status_code == 429)
