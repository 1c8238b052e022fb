"""schemathesis over the whole OpenAPI document, by real HTTP against real stores.

All its checks are on. A failure is mended in the product, or in what the document promises.
"""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.schemas import BaseSchema

from planes.shared.domain import Role
from tests.integration.gateway.security.conftest import World, running_world, some_address

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
        # from earlier than to, both after the year 2000
        _may_also_refuse("GET /billing/usage", "422"),
        # a time to come
        _may_also_refuse("POST /auth/api-keys", "422"),
        # a plan of the table of plans
        _may_also_refuse("POST /billing/subscription", "422"),
    ],
}
# What "format": "password" does not say: a password that nobody guesses.
schemathesis.openapi.format(
    "password", st.permutations(_WORDS).map(lambda words: " ".join(words[:5]))
)


class ServedWorld:
    """A gateway in a thread of its own: schemathesis calls it without an event loop."""

    def __init__(self, urls: dict[str, str], redis_url: str, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._ready: Future[World] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(self._run(urls, redis_url, folder),)
        )
        self._thread.start()
        self.world = self._ready.result(30)

    async def _run(self, urls: dict[str, str], redis_url: str, folder: Path) -> None:
        try:
            async with running_world(urls, redis_url, folder) as world:
                self._ready.set_result(world)
                await self._stop.wait()
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            raise

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        self._loop.close()

    def owners_token(self) -> str:
        """Return an access token of the owner of a new tenant."""
        return asyncio.run_coroutine_threadsafe(self._owners_token(), self._loop).result(30)

    async def _owners_token(self) -> str:
        household = await self.world.household()
        return await self.world.token(household.members[Role.OWNER])


@pytest.fixture(scope="module")
def served_world(
    module_database_urls: dict[str, str],
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServedWorld]:
    """A gateway in a thread."""
    served = ServedWorld(module_database_urls, redis_url, tmp_path_factory.mktemp("gateway"))
    yield served
    served.close()


def _document(served: ServedWorld) -> BaseSchema:
    config = schemathesis.Config.from_dict(_CONFIG)
    return schemathesis.openapi.from_url(f"{served.world.url}/openapi.json", config=config)


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
