"""`polyplane admin`: feedback into an evaluation set."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chat_log import PostgresChatLog
from services.cli.desk import at
from services.cli.terminal import console
from services.embedded.installation import Installation
from services.gateway.chat.history import ChatHistory
from services.gateway.feedback.dataset import write_dataset
from services.gateway.feedback.review import FeedbackReview, Reviewable

Tenant = Annotated[UUID, typer.Option(help="Whose; `list-tenants` shows the ids.")]
Relevant = Annotated[
    list[UUID] | None,
    typer.Option(help="A document that answers the question; repeat it for more."),
]


def list_feedback() -> None:
    """Show feedback that waits for a review, with its question and answer; the oldest first."""

    async def show(review: FeedbackReview) -> None:
        async for each in review.waiting():
            _print(each)

    at(open_review, show)


def review_feedback(
    feedback_id: Annotated[UUID, typer.Argument(help="As `list-feedback` shows it.")],
    accept: Annotated[
        bool, typer.Option("--accept/--reject", help="Whether to evaluate by it.", prompt=True)
    ],
    relevant: Relevant = None,
) -> None:
    """Accept feedback for the evaluation set, or reject it.

    Without --relevant the documents that a good answer cited count as those that answer.
    """

    async def decide(review: FeedbackReview) -> None:
        await review.decide(feedback_id, is_accepted=accept, relevant=relevant or ())

    at(open_review, decide)
    console.print(f"{'Accepted' if accept else 'Rejected'} {feedback_id}.", markup=False)


def export_feedback(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")], tenant: Tenant
) -> None:
    """Write a tenant's accepted feedback as queries and qrels, in BEIR's form."""

    async def export(review: FeedbackReview) -> int:
        items = await review.accepted(tenant)
        write_dataset(folder, items)
        return len(items)

    count = at(open_review, export)
    console.print(f"Wrote {count} question{'' if count == 1 else 's'} to {folder}.", markup=False)


@asynccontextmanager
async def open_review(installation: Installation) -> AsyncIterator[FeedbackReview]:
    """Open the feedback of a running platform."""
    database = Database(installation.database_url("polyplane_gateway"), service="cli")
    await database.open()
    try:
        yield FeedbackReview(database, ChatHistory(database, PostgresChatLog(database)))
    finally:
        await database.close()


def _print(item: Reviewable) -> None:
    console.print(f"{item.id}  tenant {item.tenant_id}  {item.rating}  {item.model}", markup=False)
    said = {
        "question": item.question,
        "answer": item.answer,
        "comment": item.comment,
        "correction": item.correction,
        "cited": " ".join(map(str, item.relevant)) or None,
    }
    for name, text in said.items():
        if text is not None:
            console.print(f"  {name + ':':<12}{text}", markup=False)
