"""`polyplane admin`: generations of the index, see docs/reembedding.md."""

from pathlib import Path
from typing import Annotated

import typer

from planes.data.evaluation.comparison import Comparison
from planes.data.evaluation.questions import read_questions
from planes.shared.domain import IndexRecipe
from planes.shared.embedding_models import MODEL_NAME
from planes.shared.stores.postgres_generations import Generation
from services.cli.generation_desk import Desk, at_desk
from services.cli.generation_steps import bring_live, evaluate, follow_build
from services.cli.terminal import console

Number = Annotated[int, typer.Argument(help="As `list-generations` shows it.", min=1)]


def list_generations() -> None:
    """List the generations of the index, and what each lacks."""

    async def show(desk: Desk) -> None:
        for generation in await desk.generations.all():
            progress = await desk.generations.progress(generation.number)
            held = f"{progress.versions - progress.missing} of {progress.versions} documents"
            recipe = f"{generation.recipe.embedder}  {generation.recipe.chunker}"
            line = f"{generation.number:>3}  {generation.state:<9} {held:<26} {recipe}"
            console.print(line + _remarks(generation), markup=False)

    at_desk(show)


def create_generation(
    chunker: Annotated[
        str, typer.Option(envvar="DATA_CHUNKER", help="`semchunk-` and the tokens of a chunk.")
    ],
    embedder: Annotated[
        str, typer.Option(envvar="DATA_EMBEDDER", help="Name of the embedding model.")
    ] = MODEL_NAME,
) -> None:
    """Make an empty generation of the index beside the live one."""

    async def create(desk: Desk) -> int:
        return await desk.generations.create(IndexRecipe(embedder, chunker))

    number = at_desk(create)
    console.print(f"Made generation {number}. Next: polyplane admin build-generation {number}")


def build_generation(number: Number) -> None:
    """Add all searchable documents to a generation; interrupted, it goes on in the background."""

    async def build(desk: Desk) -> Generation:
        await desk.generations.get(number)
        await desk.generations.want_build(number)
        await desk.request_turn(number)
        return await follow_build(desk, number)

    generation = at_desk(build)
    notes = generation.build or {}
    if notes.get("failures"):
        console.print(f"[red]{notes['failures']} documents cannot be added:[/]")
        for one in notes["failed"]:
            console.print(f"  {one['document_id']}: {one['reason']}", markup=False)
        raise typer.Exit(1)
    console.print(f"Built. Next: polyplane admin evaluate-generation {number}")


def evaluate_generation(
    number: Number,
    questions: Annotated[
        Path | None,
        typer.Option(help='JSON Lines: {"tenant_id", "query", "relevant": {document id: grade}}.'),
    ] = None,
    sample: Annotated[
        int, typer.Option(help="Without a file: sentences of so many documents.", min=1, max=5000)
    ] = 100,
) -> None:
    """Compare a generation's search with the live one's, through the serving plane."""

    async def run(desk: Desk) -> Comparison:
        asked = None if questions is None else read_questions(questions)
        return await evaluate(desk, number, asked, chunks=sample)

    found = at_desk(run)
    console.print(f"{found.questions} questions, the first {found.k} documents of each")
    console.print(f"  {'':<14} {'live':>6} {number:>6}")
    console.print(f"  {'recall':<14} {found.live.recall:6.3f} {found.other.recall:6.3f}")
    console.print(f"  {'NDCG':<14} {found.live.ndcg:6.3f} {found.other.ndcg:6.3f}")
    console.print(f"  {'found by both':<14} {'':>6} {found.overlap:6.3f}")
    console.print(f"Next: polyplane admin switch-generation {number}")


def switch_generation(
    number: Number,
    force: Annotated[bool, typer.Option(help="Even if it was never evaluated.")] = False,
) -> None:
    """Make a generation the searched one, in one step; the one before stays for a way back."""

    async def switch(desk: Desk) -> None:
        await bring_live(desk, number, unevaluated=force)

    at_desk(switch)
    console.print(f"Generation {number} is live. Back: polyplane admin rollback-generation")


def rollback_generation() -> None:
    """Switch back to the generation that was live before, once it holds what came since."""

    async def switch_back(desk: Desk) -> int:
        number = (await desk.generations.previous()).number
        await bring_live(desk, number, unevaluated=True)
        return number

    console.print(f"Generation {at_desk(switch_back)} is live again.")


def drop_generation(number: Number) -> None:
    """Remove a generation that is not live, and its chunks, for good."""

    async def drop(desk: Desk) -> None:
        await desk.generations.drop(number)

    at_desk(drop)
    console.print(f"Generation {number} is gone.")


def _remarks(generation: Generation) -> str:
    remarks = []
    if generation.build_wanted:
        remarks.append("is being built")
    if generation.evaluation is not None:
        remarks.append(f"evaluated {generation.evaluation['at']}")
    if generation.live_at is not None:
        remarks.append(f"live since {generation.live_at:%Y-%m-%d %H:%M}")
    if generation.retired_at is not None:
        remarks[-1:] = [f"retired {generation.retired_at:%Y-%m-%d %H:%M}"]
    return f"  ({', '.join(remarks)})" if remarks else ""
