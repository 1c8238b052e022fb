"""`polyplane eval`: how well search finds what judged questions ask for, see docs/evaluation.md."""

import asyncio
from pathlib import Path
from typing import Annotated

import httpx
import typer

from planes.data.evaluation.dataset import Dataset, read_dataset
from planes.data.evaluation.scores import Measured, Scores, score
from planes.shared.errors import PlatformError
from planes.shared.stores.chunk_settings import ChunkStoreKind
from services.cli.demo_client import CallFailed
from services.cli.eval_by_http import search_by_http
from services.cli.eval_in_process import SUM_OF_SCORES, Run, search_in_process
from services.cli.terminal import console, errors

app = typer.Typer(add_completion=False)


@app.command(name="eval")
def evaluate(  # noqa: PLR0913, PLR0917 (each is an option)
    dataset: Annotated[
        Path, typer.Option(help="Folder with corpus.jsonl, queries.jsonl and qrels/test.tsv.")
    ],
    chunker: Annotated[
        str, typer.Option(help="`semchunk-` and the most tokens of a chunk, or `none`.")
    ] = "semchunk-256",
    url: Annotated[
        str | None,
        typer.Option(help="A platform's API, asked as POLYPLANE_API_KEY or as one who signs in."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="File in which vectors are kept for the next run.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Ask only so many questions.", min=1)] = None,
    store: Annotated[
        ChunkStoreKind, typer.Option(help="Where the chunks are kept, at MONGO_URL or QDRANT_URL.")
    ] = "postgres",
) -> None:
    """Measure search over a judged corpus: here with a database of its own, or over HTTP."""
    try:
        judged = read_dataset(dataset).with_questions(limit)
        found = (
            asyncio.run(search_in_process(judged, chunker=chunker, cache=cache, store=store))
            if url is None
            else search_by_http(judged, url)
        )
    except (PlatformError, CallFailed, httpx.HTTPError, RuntimeError, OSError) as error:
        detail = error.detail if isinstance(error, PlatformError) else error
        errors.print(f"The evaluation failed: {detail}", markup=False)
        raise typer.Exit(1) from error
    reference = SUM_OF_SCORES if SUM_OF_SCORES in found.lists else next(iter(found.lists))
    _print(judged, found, score(judged.questions, found.lists, reference=reference))


def _print(judged: Dataset, found: Run, scores: dict[str, Scores]) -> None:
    console.print(
        f"{judged.name}: {len(judged.corpus)} documents, {len(judged.questions)} questions, "
        f"{found.chunks}; means with 95 % intervals"
    )
    measures = list(next(iter(scores.values())))
    headings = "".join(f"{measure:<21}" for measure in measures)
    console.print(f"{'search by':<15}{headings}{'NDCG gain':<17}ms")
    for way, measured in scores.items():
        cells = "".join(f"{_cell(measured[measure]):<21}" for measure in measures)
        gain = measured[measures[0]].gain
        against = "" if gain is None else f"{gain[0]:+.3f} to {gain[1]:+.3f}"
        ms = f"{found.ms[way]:.0f}" if way in found.ms else ""
        console.print(f"{way:<15}{cells}{against:<17}{ms}".rstrip(), markup=False)


def _cell(measured: Measured) -> str:
    low, high = measured.interval
    return f"{measured.mean:.3f} ({low:.3f}-{high:.3f})"
