"""What was acknowledged to a visitor, against what the stores hold once nothing is under way."""

import time
from collections.abc import Iterator
from typing import Any, Self
from uuid import UUID

import httpx

from planes.shared.domain import ChatMessage
from tests.e2e.drill.bills import Bill
from tests.e2e.drill.records import Records
from tests.e2e.person import until
from tests.servers.traffic import PASSWORD, Visitor

_SETTLED_S = 180
_LOOKED_AT = 25  # by HTTP, whose rate is limited; the stores are asked for everything
_ON_THE_WAY = """
SELECT (SELECT count(*) FROM outbox WHERE tenant_id = :tenant)
     + (SELECT count(*) FROM reservations WHERE tenant_id = :tenant)
"""
_LEDGER = """
SELECT count(*) AS messages, coalesce(sum(prompt_tokens + completion_tokens), 0) AS total_tokens,
       coalesce(sum(cost_usd), 0) AS cost_usd
FROM ledger WHERE tenant_id = :tenant
"""
_CONVERSATIONS = "SELECT id FROM conversations WHERE tenant_id = :tenant AND deleted_at IS NULL"


class Books:
    """The documents, answers and bills of one visitor."""

    def __init__(self, records: Records, base_url: str, visitor: Visitor) -> None:
        """Store where the truth is read, and whose."""
        self._records = records
        self._visitor = visitor
        self._tenant = UUID(visitor.tenant_id)
        self._http = httpx.Client(base_url=base_url, timeout=60, trust_env=False)

    def __enter__(self) -> Self:
        """Sign in anew: tokens live for ten minutes."""
        body = {"email": self._visitor.email, "password": PASSWORD}
        answer = self._http.post("/auth/login", json=body)
        assert answer.status_code == httpx.codes.OK, answer.text
        self._http.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._http.close()

    def faults(self) -> list[str]:
        """Name what was acknowledged and is lost, and what is there and was not billed once."""
        until(self._is_settled, seconds=_SETTLED_S, what="settlement and the way to the chat log")
        conversations = self._records.values(_CONVERSATIONS, tenant=self._tenant)
        messages = self._records.messages(self._tenant, conversations)
        return [
            *self._faults_of_documents(),
            *self._faults_of_answers(messages),
            *self._faults_of_history(),
            *self._faults_of_bills(messages),
        ]

    def _is_settled(self) -> bool:
        return bool(self._records.values(_ON_THE_WAY, tenant=self._tenant)[0] == 0)

    def _faults_of_documents(self) -> Iterator[str]:
        for number, (document_id, name) in enumerate(self._visitor.documents.items()):
            document = self._get(f"/documents/{document_id}")
            if (document["status"], document["version"]) != ("ready", 1):
                yield f"{name} is {document['status']}: {document['error']}"
            elif number % max(1, len(self._visitor.documents) // _LOOKED_AT) == 0:
                mark = name.removesuffix(".txt")
                query = {"query": f"tide of {mark}", "document_ids": [document_id]}
                found = self._search(query)
                if not any(mark in passage["text"] for passage in found):
                    yield f"{name} is ready and not found: {found}"

    def _search(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what is found; who is told to come back later does so."""
        answers: list[httpx.Response] = []

        def is_answered() -> bool:
            answers.append(self._http.post("/search", json=query))
            if answers[-1].status_code in (429, 503):
                time.sleep(int(answers[-1].headers["retry-after"]))
                return False
            return True

        until(is_answered, seconds=_SETTLED_S, what="a search")
        assert answers[-1].status_code == httpx.codes.OK, answers[-1].text
        passages: list[dict[str, Any]] = answers[-1].json()["passages"]
        return passages

    def _faults_of_answers(self, messages: list[ChatMessage]) -> Iterator[str]:
        """Compare what arrived with the chat log."""
        kept = {(str(one.conversation_id), str(one.id)): one.content for one in messages}
        for one in self._visitor.answers:
            content = kept.get((one.conversation_id, one.message_id))
            if content != one.content:
                yield f"answer {one.message_id} is {content!r} instead of {one.content!r}"

    def _faults_of_history(self) -> Iterator[str]:
        """Compare what arrived with what the person is shown."""
        step = max(1, len(self._visitor.answers) // _LOOKED_AT)
        for one in self._visitor.answers[::step]:
            shown = self._get(f"/conversations/{one.conversation_id}/messages")["items"]
            found = [(each["role"], each["content"]) for each in shown]
            if [role for role, _ in found] != ["user", "assistant"] or found[1][1] != one.content:
                yield f"conversation {one.conversation_id} shows {found}"

    def _faults_of_bills(self, messages: list[ChatMessage]) -> Iterator[str]:
        """Usage, quota, ledger and the answers in the chat log are the same to the last digit."""
        kept = Bill.of_messages(messages)
        ledger = Bill(**self._records.rows(_LEDGER, tenant=self._tenant)[0])
        usage = self._get("/billing/usage")
        shown = Bill.shown(usage)
        if not kept == ledger == shown:
            yield f"answers {kept}, ledger {ledger} and usage {shown} differ"
        used = {name: usage["quotas"][name]["used"] for name in ("messages", "tokens")}
        if (used["messages"], used["tokens"]) != (shown.messages, shown.total_tokens):
            yield f"quotas {used} are not what the usage says: {shown}"

    def _get(self, path: str) -> dict[str, Any]:
        answer = self._http.get(path)
        assert answer.status_code == httpx.codes.OK, f"{path}: {answer.text}"
        return dict(answer.json())
