"""`polyplane demo`: documents, questions and cited answers, by HTTP alone."""

import os
import time
from typing import Any

import httpx
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from services.cli.demo_client import CallFailed, DemoClient
from services.cli.demo_files import QUESTIONS, Question, files
from services.cli.terminal import console, errors
from services.cli.up import started_platform
from services.embedded.home import locate
from services.embedded.state import read_state

app = typer.Typer(add_completion=False)

_INGESTION_S = 300.0
_POLL_S = 0.5


class DemoFailed(RuntimeError):
    """Something that the platform promises did not hold."""


@app.command()
def demo() -> None:
    """Upload documents, ask three questions, check the citations; exit 1 if anything fails."""
    home = locate()
    state = read_state(home)
    if state is None or state.phase != "running":
        with started_platform(home, dict(os.environ)) as state:
            pass
    http = httpx.Client(
        base_url=state.gateway_url,
        timeout=90,
        verify=False,  # noqa: S501 - one's own certificate, our own platform
        trust_env=False,
    )
    try:
        with http:
            _run(DemoClient(http))
    except (DemoFailed, CallFailed, httpx.HTTPError) as error:
        errors.print(f"The demonstration failed: {error}", style="red", markup=False)
        raise typer.Exit(1) from error


def _run(client: DemoClient) -> None:
    user = client.register()
    console.print(f"Signed up as {user.email} with password {user.password}", markup=False)
    _ingest(client)
    for number, question in enumerate(QUESTIONS, 1):
        console.print(f"\n[bold]{number}. {question.text}[/]")
        _ask(client, question)
    _print_usage(client.usage())


def _ingest(client: DemoClient) -> None:
    began = time.monotonic()
    uploads = list(files())
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        uploading = progress.add_task("Uploading", total=len(uploads))
        waiting: dict[str, str] = {}
        for name, content in uploads:
            waiting[client.upload(name, content)] = name
            progress.advance(uploading)
        indexing = progress.add_task("Making searchable", total=len(waiting))
        while waiting:
            if time.monotonic() - began > _INGESTION_S:
                raise DemoFailed(f"not searchable in time: {', '.join(waiting.values())}")
            for document_id in _finished(client, list(waiting)):
                del waiting[document_id]
                progress.advance(indexing)
            time.sleep(_POLL_S)
    console.print(f"{len(uploads)} documents are ready, after {time.monotonic() - began:.1f} s.")


def _finished(client: DemoClient, document_ids: list[str]) -> list[str]:
    """Return those that are ready, the oldest first; they become ready in that order or nearly.

    Raises:
        DemoFailed: A document was rejected.
    """
    ready = []
    for document_id in document_ids:
        document = client.document(document_id)
        if document["status"] == "failed":
            raise DemoFailed(f"{document['name']}: {document['error']}")
        if document["status"] != "ready":
            break
        ready.append(document_id)
    return ready


def _ask(client: DemoClient, question: Question) -> None:
    answer = _streamed(client, question.text) if question.stream else client.ask(question.text)
    if not question.stream:
        console.print(answer["message"]["content"], markup=False)
    citations = answer["citations"]
    for citation in citations:
        _print_citation(citation)
        _check_citation(client, citation)
    if not any(question.quoted in " ".join(citation["quote"].split()) for citation in citations):
        raise DemoFailed(f"no citation says {question.quoted!r}")
    usage = answer["usage"]
    spent = f"{usage['total_tokens']} tokens, {usage['cost_usd']} USD"
    console.print(f"    [dim]{answer['model']}, {spent}; every quote is in its document[/]")


def _streamed(client: DemoClient, question: str) -> dict[str, Any]:
    """Print the answer as it comes; return what its last events say."""
    citations: list[dict[str, Any]] = []
    done: dict[str, Any] = {}
    for name, data in client.ask_streaming(question):
        if name == "delta":
            console.print(data["text"], end="", markup=False)
        elif name == "citation":
            citations.append(data)
        elif name == "done":
            done = data
    console.print()
    if not done:
        raise DemoFailed("the stream ended without `done`")
    return {**done, "citations": citations}


def _print_citation(citation: dict[str, Any]) -> None:
    page = f", page {citation['page']}" if citation["page"] else ""
    place = f"{citation['document_name']}{page}, characters {citation['start']}-{citation['end']}"
    quote = " ".join(citation["quote"].split())
    console.print(f"    {citation['marker']} {place}: “{quote}”", style="cyan", markup=False)


def _check_citation(client: DemoClient, citation: dict[str, Any]) -> None:
    text = client.text(citation["document_id"], citation["version"])
    if text[citation["start"] : citation["end"]] != citation["quote"]:
        raise DemoFailed(f"the quote is not in {citation['document_name']}: {citation['quote']!r}")


def _print_usage(usage: dict[str, Any]) -> None:
    totals = usage["totals"]
    console.print(
        f"\n[bold]Used this month[/] (plan {usage['plan']}): {totals['messages']} messages, "
        f"{totals['prompt_tokens']} + {totals['completion_tokens']} tokens, "
        f"{totals['cost_usd']} USD"
    )
    if totals["messages"] < len(QUESTIONS):
        raise DemoFailed("the usage does not hold every answer")
