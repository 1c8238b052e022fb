"""What the commands over generations of the index work with."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from planes.data.evaluation.questions import Question
from planes.shared.clients.dagster import DagsterClient
from planes.shared.clients.serving import Deadlines, ServingClient
from planes.shared.domain import TenantContext
from planes.shared.errors import Unavailable
from planes.shared.stores.chunk_settings import ChunkStoreSettings, chunk_stores
from planes.shared.stores.chunks_by_generation import ChunksByGeneration
from planes.shared.stores.generation_keeper import GenerationKeeper
from planes.shared.stores.postgres import Database
from planes.shared.wire import Scope, SearchRequest, ServingTokens
from services.cli.desk import at
from services.embedded.installation import Installation
from services.embedded.postgres import PLATFORM_DATABASE

Result = TypeVar("Result")
_NOBODY = UUID(int=0)
_PASSAGES = 50
_DEADLINES = Deadlines(headers_s=5, first_token_s=60, idle_s=60, search_s=30)
_SWITCH_S = 660.0
_TURN_FAILED = "Dagster does not take the request for a run. `polyplane status` shows its state."


@dataclass(frozen=True, slots=True)
class Desk:
    """The generations in the hands of the schema's owner, Dagster, and the serving plane.

    `chunks` are those of all generations, `registry` is the database that knows them.
    """

    generations: GenerationKeeper
    dagster: DagsterClient
    serving: ServingClient
    chunks: ChunksByGeneration
    registry: Database

    async def request_turn(self, number: int, *, is_last: bool = False) -> None:
        """Have the data plane build a generation; the last turn goes before everything that waits.

        Raises:
            Unavailable: Dagster does not take the request.
        """
        config = {
            "ops": {"generation_index": {"config": {"generation": number, "is_last": is_last}}}
        }
        tags = {"dagster/priority": "10" if is_last else "-1"}
        if not await self.dagster.request_run("reembedding", config, tags):
            raise Unavailable(_TURN_FAILED)

    async def search(self, question: Question, generation: int) -> Sequence[UUID]:
        """Return the documents that a generation finds, as people would find them after a switch.

        Raises:
            Unavailable: The serving plane does not answer.
        """
        hidden = await self.generations.hidden_versions(question.tenant_id)
        request = SearchRequest(
            query=question.text,
            scope=Scope(generation=generation, hidden_versions=tuple(hidden)),
            top_k=_PASSAGES,
        )
        context = TenantContext(question.tenant_id, _NOBODY)
        found = await self.serving.search(request, context, "evaluation")
        return list(dict.fromkeys(passage.document_id for passage in found.passages))


def at_desk(act: Callable[[Desk], Awaitable[Result]]) -> Result:
    """Do something with the running platform.

    Raises:
        typer.Exit: It does not run, or refuses; what it says is printed.
    """
    return at(_open, act)


@asynccontextmanager
async def _open(installation: Installation) -> AsyncIterator[Desk]:
    ports, secret = installation.ports, installation.secrets["serving_token_secret"]
    database = Database(
        installation.servers.owner_url(PLATFORM_DATABASE),
        service="cli",
        max_connections=4,
        deadline_s=_SWITCH_S,
    )
    dagster = DagsterClient(f"http://127.0.0.1:{ports['dagster']}")
    serving = ServingClient(
        f"http://127.0.0.1:{ports['serving']}", ServingTokens(secret), _DEADLINES
    )
    store = chunk_stores(installation.settings(ChunkStoreSettings), database)
    await database.open()
    dagster.open()
    serving.open()
    try:
        await store.open()
        models_dir = installation.embedding_models
        generations = GenerationKeeper(database, store, models_dir=models_dir)
        yield Desk(generations, dagster, serving, store, database)
    finally:
        await serving.close()
        await dagster.close()
        await store.close()
        await database.close()
