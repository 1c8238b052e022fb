"""What ends, ends on every gateway; an invitation by mail reaches the invited person alone."""

from collections.abc import AsyncIterator

import httpx
import pytest

from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings
from tests.integration.gateway.auth.mailbox import Mailbox, open_mailbox
from tests.integration.gateway.conftest import Gateway, Person, served
from tests.integration.gateway.tenants.conftest import Join, accept, email_of, invite

pytestmark = pytest.mark.integration


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with open_mailbox() as mailbox:
        yield mailbox


async def test_a_deleted_tenant_and_a_removed_member_are_out_on_another_gateway_at_once(
    gateway: Gateway, person: Person, join: Join
) -> None:
    member, other = await join(person, "member"), await join(person, "viewer")
    settings: GatewaySettings = gateway.app.state.settings
    async with served(create_app(settings)) as url, httpx.AsyncClient(base_url=url) as second:

        async def status(who: Person) -> int:
            headers = {"authorization": who.http.headers["authorization"]}
            return (await second.get("/auth/me", headers=headers)).status_code

        for who in (person, member, other):
            assert await status(who) == 200
        await person.http.delete(f"/tenant/members/{member.user_id}")
        assert await status(member) == 401
        assert await status(other) == 200
        await person.http.delete("/tenant")
        assert [await status(who) for who in (person, other)] == [401, 401]


async def test_an_invitation_goes_by_mail_where_mail_is_configured(
    gateway: Gateway, person: Person, stranger: Person, mailbox: Mailbox
) -> None:
    settings: GatewaySettings = gateway.app.state.settings
    mail = {
        "smtp_host": "127.0.0.1",
        "smtp_port": mailbox.port,
        "smtp_tls": "none",
        "mail_from": "polyplane@example.com",
        "public_url": "http://127.0.0.1",
    }
    values = settings.model_dump() | mail
    async with served(create_app(GatewaySettings(**values))) as url:
        person.http.base_url = url
        made = await invite(person, await email_of(stranger))
        assert made.json()["token"] is None
        token = await mailbox.token(await email_of(stranger))
        assert (await accept(stranger, token)).status_code == 200
