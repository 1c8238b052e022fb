"""`polyplane admin`: feedback into an evaluation set."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from planes.shared.errors import Conflict, InvalidInput
from planes.shared.stores.chat_log_settings import ChatLogSettings, open_chat_log
from planes.shared.stores.postgres import Database
from services.cli.desk import at
from services.cli.terminal import console, printable
from services.embedded.installation import Installation
from services.gateway.chat.history import ChatHistory
from services.gateway.feedback.corpus import CorpusDocument, corpus_of
from services.gateway.feedback.dataset import Written, write_dataset
from services.gateway.feedback.review import FeedbackReview, Reviewable

_INDENT = " " * 14

Tenant = Annotated[UUID, typer.Option(help="Whose; `list-tenants` shows the ids.")]
Relevant = Annotated[
    list[UUID] | None,
    typer.Option(help="A document that answers the question; repeat it for more."),
]
Seen = Annotated[
    str | None,
    typer.Option(help="The time that `list-feedback` showed: decide only if nothing has changed."),
]


@dataclass(frozen=True, slots=True)
class FeedbackDesk:
    """What the commands work with; `corpus` returns a tenant's documents."""

    review: FeedbackReview
    corpus: Callable[[UUID], AsyncIterator[CorpusDocument]]


def list_feedback() -> None:
    """Show feedback that waits for a review, with its question and answer; the oldest first."""

    async def show(desk: FeedbackDesk) -> None:
        async for each in desk.review.waiting():
            _print(each)

    at(open_desk, show)


def review_feedback(
    feedback_id: Annotated[UUID, typer.Argument(help="As `list-feedback` shows it.")],
    accept: Annotated[
        bool | None, typer.Option("--accept/--reject", help="Whether to evaluate by it.")
    ] = None,
    relevant: Relevant = None,
    seen: Seen = None,
) -> None:
    """Show feedback, then accept it for the evaluation set or reject it.

    Without --relevant the documents that a good answer cited count as those that answer.
    """

    async def decide(desk: FeedbackDesk) -> bool:
        found = await desk.review.find(feedback_id)
        if seen is not None and _time(seen) != found.updated_at:
            raise Conflict("The feedback has changed since then. Look at it again.")
        _print(found)
        is_accepted = typer.confirm("Evaluate by it?") if accept is None else accept
        await desk.review.decide(found, is_accepted=is_accepted, relevant=relevant or ())
        return is_accepted

    is_accepted = at(open_desk, decide)
    console.print(f"{'Accepted' if is_accepted else 'Rejected'} {feedback_id}.", markup=False)


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput("--seen takes the time that the list shows.") from error


def export_feedback(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")], tenant: Tenant
) -> None:
    """Write a tenant's documents and accepted feedback as an evaluation set, in BEIR's form."""

    async def export(desk: FeedbackDesk) -> Written:
        await desk.review.begin_export(tenant)
        return await write_dataset(folder, desk.review.accepted(tenant), desk.corpus(tenant))

    written = at(open_desk, export)
    console.print(
        f"Wrote {written.documents} documents and {written.questions} questions to {folder}; "
        f"{written.judged} of these have a document that answers them, and count.",
        markup=False,
    )


@asynccontextmanager
async def open_desk(installation: Installation) -> AsyncIterator[FeedbackDesk]:
    """Open the feedback and the documents of a running platform."""
    database = Database(installation.database_url("polyplane_gateway"), service="cli")
    await database.open()
    try:
        async with open_chat_log(installation.settings(ChatLogSettings), database) as chat_log:
            review = FeedbackReview(database, ChatHistory(database, chat_log))
            yield FeedbackDesk(review, partial(corpus_of, database, installation.objects()))
    finally:
        await database.close()


def _print(item: Reviewable) -> None:
    """Print feedback; what people wrote stays inside its own lines."""
    head = f"{item.id}  {item.updated_at.isoformat()}  tenant {item.tenant_id}  {item.rating}"
    console.print(f"{head}  {printable(item.model)}", markup=False)
    said = {
        "question": item.question,
        "answer": item.answer,
        "comment": item.comment,
        "correction": item.correction,
        "cited": " ".join(map(str, item.relevant)) or None,
    }
    for name, text in said.items():
        if text is not None:
            told = printable(text).replace("\n", f"\n{_INDENT}")
            console.print(f"  {name + ':':<12}{told}", markup=False)
