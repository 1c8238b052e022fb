"""A person who uses the platform by HTTP, for end-to-end tests."""

import secrets
import time
from collections.abc import Callable
from typing import Any

import httpx


def until(condition: Callable[[], object], *, seconds: float, what: str = "it") -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} took more than {seconds} s"
        time.sleep(0.1)


class Person:
    """Somebody with an account, and a tenant of their own."""

    def __init__(self, base_url: str) -> None:
        """Register."""
        self.http = httpx.Client(base_url=base_url, timeout=60)
        self.email = f"{secrets.token_hex(8)}@example.com"
        self.password = secrets.token_urlsafe(18)
        body = {"email": self.email, "password": self.password, "tenant_name": "Birds"}
        answer = self.http.post("/auth/register", json=body)
        assert answer.status_code == 201, answer.text
        self._keep(answer.json())
        self.tenant_id = self.tokens["tenant"]["id"]

    def sign_in(self, base_url: str) -> None:
        """Sign in where the platform is now."""
        self.http = httpx.Client(base_url=base_url, timeout=60)
        body = {"email": self.email, "password": self.password}
        answer = self.http.post("/auth/login", json=body)
        assert answer.status_code == 200, answer.text
        self._keep(answer.json())

    def stay_signed_in(self) -> None:
        """Get a fresh access token; one lives for ten minutes."""
        body = {"refresh_token": self.tokens["refresh_token"]}
        answer = self.http.post("/auth/refresh", json=body)
        assert answer.status_code == 200, answer.text
        self._keep(answer.json())

    def _keep(self, tokens: dict[str, Any]) -> None:
        self.tokens = tokens
        self.http.headers["authorization"] = f"Bearer {tokens['access_token']}"

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Return what a path answers."""
        answer = self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def upload(self, name: str, content: bytes) -> tuple[str, str]:
        """Upload a file and return its document's and its job's id."""
        answer = self.http.post("/documents", files={"file": (name, content)})
        assert answer.status_code == 202, answer.text
        return answer.json()["document"]["id"], answer.json()["job_id"]

    def finished(self, document_id: str, *, seconds: float = 120) -> dict[str, Any]:
        """Return a document once it is ready or failed."""
        document: dict[str, Any] = {}

        def is_finished() -> bool:
            document.update(self.get(f"/documents/{document_id}"))
            return document["status"] in ("ready", "failed")

        until(is_finished, seconds=seconds, what="processing")
        return document

    def ask(self, question: str, **options: object) -> dict[str, Any]:
        """Return the answer to a question."""
        answer = self.http.post("/chat", json={"message": question, **options})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def check(self, citations: list[dict[str, Any]]) -> None:
        """Each quote is really there."""
        for citation in citations:
            path = f"/documents/{citation['document_id']}/text"
            answer = self.http.get(path, params={"version": citation["version"]})
            text = answer.content.decode()
            assert text[citation["start"] : citation["end"]] == citation["quote"]
            assert citation["quote"].strip()

    def has_nothing_reserved(self) -> bool:
        """Tell whether the quotas hold exactly what the ledger says."""
        usage = self.get("/billing/usage")
        quotas, totals = usage["quotas"], usage["totals"]
        return (quotas["messages"]["used"], quotas["tokens"]["used"]) == (
            totals["messages"],
            totals["total_tokens"],
        )
