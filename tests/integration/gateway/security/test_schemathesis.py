"""schemathesis over the whole OpenAPI document, by real HTTP against real stores.

All its checks are on. A failure is mended in the product, or in what the document promises.
"""

import asyncio
import multiprocessing
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

import pytest
import schemathesis
import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.schemas import BaseSchema

from tests.integration.gateway.security.conftest import running_world, some_address

_WORDS = ("heron", "lantern", "quarry", "velvet", "orchard", "ember", "tundra", "saffron")
_BOUNDED = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
_ACCEPTED = ["2xx", "3xx", "401", "403", "404", "409", "429", "5xx"]  # schemathesis's own


def _may_also_refuse(operation: str, *statuses: str) -> dict[str, object]:
    """Say that a valid body may be refused for what JSON Schema has no words for."""
    check = {"expected-statuses": [*_ACCEPTED, *statuses]}
    return {"include-name": operation, "checks": {"positive_data_acceptance": check}}


_CONFIG = {
    "seed": 9457,
    "generation": {"deterministic": True},
    "warnings": False,
    "operations": [
        # files by their content, and metadata that is JSON within a form
        _may_also_refuse("POST /documents", "415", "422"),
        _may_also_refuse("POST /documents/batch", "402", "413", "415", "422"),
        _may_also_refuse("PUT /documents/{document_id}/content", "415", "422"),
        # hosts that are not on the public internet, and what is found there
        _may_also_refuse("POST /documents/url", "413", "415", "422"),
        # metadata without NUL, however deep; names of more than dots and slashes
        _may_also_refuse("PATCH /documents/{document_id}", "422"),
        _may_also_refuse("POST /ingest", "422"),
        # from earlier than to, both after the year 2000
        _may_also_refuse("GET /billing/usage", "422"),
        _may_also_refuse("GET /tenant/audit", "422"),
        # metadata without NUL, however deep
        _may_also_refuse("POST /search", "422"),
        # messages that end with a question
        _may_also_refuse("POST /v1/chat/completions", "400"),
        # a token from a letter, good for one act
        _may_also_refuse("POST /auth/password/reset", "400"),
        _may_also_refuse("POST /auth/verify", "400"),
        # a time to come
        _may_also_refuse("POST /auth/api-keys", "422"),
        # one of two members
        _may_also_refuse("POST /jobs/process-document", "422"),
        # a URL whose host has a public address
        _may_also_refuse("POST /webhooks", "422"),
        # the tenant's own name
        _may_also_refuse("DELETE /tenant", "422"),
        # a message, or `regenerate`
        _may_also_refuse("POST /conversations/{conversation_id}/messages", "422"),
        # a plan of the table of plans
        _may_also_refuse("POST /billing/subscription", "422"),
    ],
}
# What "format": "password" does not say: a password that nobody guesses.
schemathesis.openapi.format(
    "password", st.permutations(_WORDS).map(lambda words: " ".join(words[:5]))
)


class ServedWorld:
    """A gateway in a process of its own: hypothesis watches over randomness in this one."""

    def __init__(self, urls: dict[str, str], redis_url: str, folder: Path) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawning.Pipe()
        arguments = (theirs, urls, redis_url, folder)
        self._process = spawning.Process(target=_serve, args=arguments)
        self._process.start()
        self.url = self._answer()

    def _answer(self) -> str:
        assert self._pipe.poll(60), "the gateway's process says nothing"
        return str(self._pipe.recv())

    def owners_token(self) -> str:
        """Return an access token of the owner of a new tenant."""
        self._pipe.send("token")
        return self._answer()

    def close(self) -> None:
        self._pipe.send("stop")
        self._process.join(30)
        self._process.close()
        self._pipe.close()


def _serve(pipe: Connection, urls: dict[str, str], redis_url: str, folder: Path) -> None:
    """Run a gateway and make owners of tenants for who asks, until told to stop."""

    async def run() -> None:
        async with running_world(urls, redis_url, folder) as world:
            pipe.send(world.url)
            while await asyncio.to_thread(pipe.recv) == "token":
                pipe.send(await world.token(await world.owner()))

    structlog.configure(processors=[_silence])
    asyncio.run(run())


def _silence(*_: object) -> NoReturn:
    raise structlog.DropEvent


@pytest.fixture(scope="module")
def served_world(
    module_database_urls: dict[str, str],
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServedWorld]:
    """A running gateway."""
    served = ServedWorld(module_database_urls, redis_url, tmp_path_factory.mktemp("gateway"))
    yield served
    served.close()


def _document(served: ServedWorld) -> BaseSchema:
    config = schemathesis.Config.from_dict(_CONFIG)
    return schemathesis.openapi.from_url(f"{served.url}/openapi.json", config=config)


@pytest.fixture
def as_owner(served_world: ServedWorld) -> BaseSchema:
    """The document, with the credentials of an owner; anew where a call has ended them."""
    document = _document(served_world)

    @document.auth(refresh_interval=None)
    class Owner:
        def get(self, _case: schemathesis.Case, _context: schemathesis.AuthContext) -> str:
            return served_world.owners_token()

        def set(
            self, case: schemathesis.Case, token: str, _context: schemathesis.AuthContext
        ) -> None:
            case.headers["authorization"] = f"Bearer {token}"

    return document


@pytest.fixture
def as_nobody(served_world: ServedWorld) -> BaseSchema:
    """The document, without credentials."""
    return _document(served_world)


@pytest.fixture(autouse=True)
def node_id(request: pytest.FixtureRequest) -> None:
    """Schemathesis 4.32 changes an attribute that pytest 9.2 has renamed."""
    request.node._nodeid = request.node.nodeid


@schemathesis.pytest.from_fixture("as_owner").parametrize()
@_BOUNDED
def test_an_owners_requests_are_answered_as_documented(case: schemathesis.Case) -> None:
    case.call_and_validate(timeout=20, headers={"x-forwarded-for": some_address()})


@schemathesis.pytest.from_fixture("as_nobody").parametrize()
@_BOUNDED
def test_a_strangers_requests_are_answered_as_documented(case: schemathesis.Case) -> None:
    case.call_and_validate(timeout=20, headers={"x-forwarded-for": some_address()})
