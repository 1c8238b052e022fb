"""Search over a judged corpus of a running platform, by its public API alone."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from statistics import fmean

import httpx
from rich.progress import track
from rich.prompt import Prompt

from planes.data.evaluation.dataset import Dataset, Entry
from services.cli.demo_client import CallFailed, DemoClient
from services.cli.eval_in_process import Run
from services.cli.terminal import console

_BODY_BYTES = 500_000
_DOCUMENTS = 200  # a request
_PASSAGES = 50
_POLL_S = 1.0
_INGESTION_S = 3600.0
_WAY = "POST /search"


def search_by_http(judged: Dataset, url: str) -> Run:
    """Ingest the corpus into the caller's tenant, ask every question, and remove the corpus.

    Raises:
        CallFailed: The tenant holds documents, the API refuses a call, or a document is not
            searchable in time.
        httpx.HTTPError: It does not answer.
    """
    with httpx.Client(base_url=url, timeout=90, trust_env=False) as http:
        client = EvaluationClient(http)
        client.sign_in()
        client.refuse_documents()
        entries: dict[str, str] = {}
        try:
            for some in track(list(_portions(judged.corpus)), "Ingesting", console=console):
                client.ingest(some, entries)
            return _ask(judged, client, entries)
        finally:
            for document_id in track(list(entries), "Removing", console=console):
                client.delete(document_id)


def _ask(judged: Dataset, client: "EvaluationClient", entries: dict[str, str]) -> Run:
    lists, times = [], []
    for question in track(judged.questions, "Asking", console=console):
        began = time.perf_counter()
        documents = client.search(question.text)
        times.append(1000 * (time.perf_counter() - began))
        lists.append(list(dict.fromkeys(entries[d] for d in documents if d in entries)))
    return Run("the platform's chunker", {_WAY: lists}, {_WAY: fmean(times)})


class EvaluationClient(DemoClient):
    """The calls of an evaluation."""

    def __init__(self, http: httpx.Client) -> None:
        """Store the client, whose base address is the gateway's."""
        super().__init__(http)
        self._own = http

    def sign_in(self) -> None:
        """Use POLYPLANE_API_KEY, or sign in with POLYPLANE_EMAIL and POLYPLANE_PASSWORD.

        What is absent is asked for.
        """
        token = os.environ.get("POLYPLANE_API_KEY")
        if not token:
            email = os.environ.get("POLYPLANE_EMAIL") or Prompt.ask("E-mail")
            password = os.environ.get("POLYPLANE_PASSWORD") or Prompt.ask("Password", password=True)
            credentials = {"email": email, "password": password}
            token = str(self._call("POST", "/auth/login", json=credentials)["access_token"])
        self._own.headers["Authorization"] = f"Bearer {token}"

    def refuse_documents(self) -> None:
        """End where the tenant holds documents: the corpus is deleted at the end, by content.

        Raises:
            CallFailed: It does.
        """
        if self._call("GET", "/documents?limit=1")["items"]:
            raise CallFailed("the tenant holds documents; use one of its own for the evaluation")

    def ingest(self, entries: Sequence[Entry], known: dict[str, str]) -> None:
        """Make entries searchable documents; note in `known` which entry each document is.

        Raises:
            CallFailed: One is rejected, or not searchable within an hour.
        """
        texts = [{"name": f"{place}.md", "text": _markdown(e)} for place, e in enumerate(entries)]
        accepted = self._call("POST", "/ingest", json={"documents": texts})
        for document, entry in zip(accepted["documents"], entries, strict=True):
            known.setdefault(document["id"], entry.id)
        given_up_at = time.monotonic() + _INGESTION_S
        while (job := self._call("GET", f"/jobs/{accepted['job_id']}"))["status"] in _UNFINISHED:
            if time.monotonic() > given_up_at:
                raise CallFailed(f"job {job['id']} is not done: {job['progress']}")
            time.sleep(_POLL_S)
        if job["status"] != "succeeded" or job["progress"]["failed"]:
            raise CallFailed(f"job {job['id']}: {job['status']}, {job['progress']}")

    def search(self, query: str) -> list[str]:
        """Return the documents of the passages found, best first."""
        body = {"query": query, "top_k": _PASSAGES}
        found = self._call("POST", "/search", json=body)["passages"]
        return [str(passage["document_id"]) for passage in found]

    def delete(self, document_id: str) -> None:
        """Delete a document."""
        self._send("DELETE", f"/documents/{document_id}")


_UNFINISHED = ("queued", "running")


def _markdown(entry: Entry) -> str:
    return f"# {entry.title}\n\n{entry.text}" if entry.title else entry.text


def _portions(corpus: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Yield the corpus in parts that a request may carry."""
    portion: list[Entry] = []
    size = 0
    for entry in corpus:
        size += len(json.dumps(entry.text)) + len(json.dumps(entry.title))
        if portion and (size > _BODY_BYTES or len(portion) == _DOCUMENTS):
            yield portion
            portion, size = [], 0
        portion.append(entry)
    yield portion
