"""Rights that end in one tenant end there alone; what ends a person ends in every tenant."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import httpx
import pytest

from tests.integration.gateway.conftest import PASSWORD, Gateway, Person
from tests.integration.gateway.plane import FakePlane
from tests.integration.gateway.tenants.conftest import accept, email_of, invite
from tests.integration.gateway.test_revocation import OpenStream

pytestmark = pytest.mark.integration
_NEW_PASSWORD = "nine ravens over the chimney"


@dataclass
class Both:
    """One person, signed in to their own tenant, and to one that somebody else owns."""

    owner: Person
    guest: Person
    here: httpx.AsyncClient
    at_home: httpx.AsyncClient

    @property
    def path(self) -> str:
        """Where the owner manages the guest."""
        return f"/tenant/members/{self.guest.user_id}"

    async def are_let_in(self) -> tuple[bool, bool]:
        """Return whether the present tokens still work, here and at home."""
        answers = [await http.get("/auth/me") for http in (self.here, self.at_home)]
        assert {each.status_code for each in answers} <= {200, 401}
        return answers[0].status_code == 200, answers[1].status_code == 200

    async def enter(self) -> httpx.Response:
        """Open a session in the other's tenant."""
        return await self.at_home.post("/auth/switch", json={"tenant_id": self.owner.tenant_id})


def use(http: httpx.AsyncClient, answer: httpx.Response) -> None:
    http.headers["authorization"] = f"Bearer {answer.json()['access_token']}"


async def ask_in(both: Both, role: str) -> None:
    token = (await invite(both.owner, await email_of(both.guest), role)).json()["token"]
    assert (await accept(both.guest, token)).status_code == 200


@pytest.fixture
async def both(gateway: Gateway, person: Person, stranger: Person) -> AsyncIterator[Both]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as here:
        both = Both(person, stranger, here, stranger.http)
        await ask_in(both, "admin")
        use(here, await both.enter())
        assert await both.are_let_in() == (True, True)
        yield both


async def demote(both: Both) -> None:
    assert (await both.owner.http.patch(both.path, json={"role": "viewer"})).status_code == 200


async def remove(both: Both) -> None:
    assert (await both.owner.http.delete(both.path)).status_code == 204


@pytest.mark.parametrize("end", [demote, remove])
async def test_losing_rights_in_one_tenant_ends_tokens_and_streams_there_and_none_elsewhere(
    end: Callable[[Both], Awaitable[None]], both: Both, plane: FakePlane
) -> None:
    plane.hold = asyncio.Event()
    streams = [OpenStream(http) for http in (both.here, both.at_home)]
    for each in streams:
        await each.is_under_way()
    await end(both)
    assert await both.are_let_in() == (False, True)
    assert await streams[0].last_event() == ("error", 401)
    assert (await both.at_home.get("/tenant")).status_code == 200
    assert streams[1].is_open
    plane.hold.set()
    assert await streams[1].last_event() == ("done", 200)


async def test_an_old_token_stays_void_through_removal_and_a_new_invitation(both: Both) -> None:
    old = both.here.headers["authorization"]
    for _ in range(2):
        await demote(both)
        await remove(both)
        await ask_in(both, "admin")
        assert await both.are_let_in() == (False, True)
        entered = await both.enter()
        assert entered.status_code == 200, entered.text
        use(both.here, entered)
        assert await both.are_let_in() == (True, True), "the new membership works at once"
        refused = await both.here.get("/auth/me", headers={"authorization": old})
        assert refused.status_code == 401


async def test_a_refresh_after_a_demotion_brings_the_new_role_there_and_the_old_one_elsewhere(
    both: Both,
) -> None:
    refresh_token = (await both.enter()).json()["refresh_token"]
    await demote(both)
    use(both.here, await both.here.post("/auth/refresh", json={"refresh_token": refresh_token}))
    roles = [
        (await http.get("/auth/me")).json()["user"]["role"] for http in (both.here, both.at_home)
    ]
    assert roles == ["viewer", "owner"]


async def test_api_keys_follow_the_role_in_their_own_tenant(both: Both) -> None:
    body = {"name": "import", "scopes": ["documents:write"]}
    keys = []
    for http in (both.here, both.at_home):
        made = await http.post("/auth/api-keys", json=body)
        assert made.status_code == 201, made.text
        keys.append({"authorization": f"Bearer {made.json()['key']}"})

    async def uploads() -> list[int]:
        files = {"file": ("a.txt", b"The warranty lasts two years.", "text/plain")}
        calls = [both.here.post("/documents", files=files, headers=key) for key in keys]
        return [(await call).status_code for call in calls]

    assert await uploads() == [202, 202]
    await demote(both)
    assert await uploads() == [403, 202]
    await remove(both)
    assert await uploads() == [401, 202]


async def test_a_new_password_ends_the_access_tokens_of_every_tenant(both: Both) -> None:
    body = {"current_password": PASSWORD, "new_password": _NEW_PASSWORD}
    assert (await both.at_home.post("/auth/password", json=body)).status_code == 204
    assert await both.are_let_in() == (False, False)
