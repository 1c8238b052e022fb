"""One thing of each kind, made as its owner would make it."""

from planes.shared.domain import Role, new_id
from tests.integration.gateway.conftest import NOBODY
from tests.integration.gateway.security.conftest import Household, World


async def make_things(world: World, household: Household) -> None:
    """Fill `household.things` with the ids of what its owner made."""
    things = household.things
    owner = household.members[Role.OWNER]
    async with world.client(await world.token(owner)) as client:
        upload = await client.post("/documents", files={"file": ("a.md", b"# Ours\n\nSecret.")})
        assert upload.status_code == 202, upload.text
        things["document"] = upload.json()["document"]["id"]
        things["job"] = upload.json()["job_id"]
        chat = await client.post("/chat", json={"message": "What is secret?"})
        assert chat.status_code == 200, chat.text
        things["conversation"] = chat.json()["conversation_id"]
        things["stream"] = chat.json()["id"]
        things["message"] = chat.json()["message"]["id"]
        key = await client.post("/auth/api-keys", json={"name": "ours", "scopes": ["search"]})
        assert key.status_code == 201, key.text
        things["api_key"] = key.json()["id"]
        letter = {"email": "friend@example.com", "role": "member"}
        invitation = await client.post("/tenant/invitations", json=letter)
        assert invitation.status_code == 201, invitation.text
        things["invitation"] = invitation.json()["id"]
        [invoice, *_] = (await client.get("/billing/invoices")).json()["items"]
        things["invoice"] = invoice["id"]
        hook = {"url": NOBODY, "events": ["document.ready"]}
        webhook = await client.post("/webhooks", json=hook)
        assert webhook.status_code == 201, webhook.text
        things["webhook"] = webhook.json()["id"]
        [session] = (await client.get("/auth/sessions")).json()["items"]
        things["session"] = session["id"]
    things["receipt"] = str(new_id())
    things["tenant"] = str(household.tenant_id)
    things["member"] = str(household.members[Role.VIEWER].user_id)
