"""Reads all accounts of the answers of a load test: the owner's database, the chat log, the API."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from uuid import UUID

import httpx

from planes.shared.domain import ChatMessage
from tests.e2e.drill.bills import Bill
from tests.e2e.drill.records import Records
from tests.e2e.person import until
from tests.load.answers import Answer
from tests.load.people import Person
from tests.load.reconciliation import Accounts, Charge, Message

_SETTLED_S = 300
_ON_THE_WAY = """
SELECT (SELECT count(*) FROM outbox WHERE tenant_id = ANY (:tenants))
     + (SELECT count(*) FROM reservations WHERE tenant_id = ANY (:tenants))
"""
_LEDGER = """
SELECT tenant_id, request_id, prompt_tokens + completion_tokens AS total_tokens, cost_usd
FROM ledger WHERE tenant_id = ANY (:tenants) AND kind = 'answer'
"""
_CONVERSATIONS = """
SELECT tenant_id, id FROM conversations
WHERE tenant_id = ANY (:tenants) AND deleted_at IS NULL ORDER BY id
"""


def read_accounts(
    records: Records,
    base_url: str,
    people: Sequence[Person],
    received: Iterable[tuple[str, Answer]],
) -> dict[str, Accounts]:
    """Return the accounts by tenant, once no answer is on its way to any of them.

    Raises:
        AssertionError: Some still are after minutes, or the API does not answer.
    """
    tenants = [UUID(each.tenant_id) for each in people]

    def is_settled() -> bool:
        return bool(records.values(_ON_THE_WAY, tenants=tenants)[0] == 0)

    until(is_settled, seconds=_SETTLED_S, what="settlement and the way to the chat log")
    answers = defaultdict[str, list[Answer]](list)
    for tenant_id, answer in received:
        answers[tenant_id].append(answer)
    ledger, chat_log = _ledger(records, tenants), _chat_log(records, tenants)
    with httpx.Client(base_url=base_url, timeout=60, trust_env=False) as http:
        return {
            each.tenant_id: Accounts(
                received=answers[each.tenant_id],
                ledger=ledger[each.tenant_id],
                chat_log=chat_log[each.tenant_id],
                usage=_usage(http, each),
            )
            for each in people
        }


def _ledger(records: Records, tenants: Sequence[UUID]) -> dict[str, dict[str, Charge]]:
    found = defaultdict[str, dict[str, Charge]](dict)
    for row in records.rows(_LEDGER, tenants=tenants):
        charge = Charge(row["total_tokens"], row["cost_usd"])
        found[str(row["tenant_id"])][str(row["request_id"])] = charge
    return found


def _chat_log(records: Records, tenants: Sequence[UUID]) -> dict[str, dict[str, Message]]:
    conversations: dict[UUID, list[UUID]] = {each: [] for each in tenants}
    for row in records.rows(_CONVERSATIONS, tenants=tenants):
        conversations[row["tenant_id"]].append(row["id"])
    return {
        str(tenant): {str(one.id): _message(one) for one in messages if one.role == "assistant"}
        for tenant, messages in records.messages_of(conversations).items()
    }


def _message(message: ChatMessage) -> Message:
    usage = message.usage or {}
    tokens, cost = usage.get("total_tokens", 0), usage.get("cost_usd", 0)
    return Message(message.content, int(str(tokens)), Decimal(str(cost)))


def _usage(http: httpx.Client, person: Person) -> Bill:
    body = {"email": person.email, "password": person.password}
    headers = {"x-forwarded-for": person.address}
    signed_in = http.post("/auth/login", json=body, headers=headers)
    assert signed_in.status_code == httpx.codes.OK, signed_in.text
    headers["authorization"] = f"Bearer {signed_in.json()['access_token']}"
    usage = http.get("/billing/usage", headers=headers)
    assert usage.status_code == httpx.codes.OK, usage.text
    return Bill.shown(usage.json())
