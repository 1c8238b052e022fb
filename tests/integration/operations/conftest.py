"""A platform's stores to back up, and empty ones to restore into."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text

from services.embedded.postgres import Postgres
from services.embedded.schema import owner_connection
from tests.integration.operations.world import Place, Tenant, settle


@pytest.fixture
def new_place(postgres: Postgres, tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """Return new stores: a migrated database, and a folder for files."""
    names: list[str] = []

    def make(**stores: object) -> Place:
        names.append(f"test_{uuid4().hex}")
        with owner_connection(postgres.url("postgres")) as connection:
            connection.execute(text(f"CREATE DATABASE {names[-1]} TEMPLATE migrated"))
        return Place(postgres.url(names[-1]), tmp_path / names[-1], **stores)

    yield make
    with owner_connection(postgres.url("postgres")) as connection:
        for name in names:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def place(new_place: Callable[..., Place]) -> Place:
    """The stores of a platform."""
    return new_place()


@pytest.fixture
async def tenants(place: Place) -> list[Tenant]:
    """Two tenants of that platform."""
    return [await settle(place, "acme"), await settle(place, "globex")]


@pytest.fixture
def other(new_place: Callable[..., Place]) -> Place:
    """Empty stores."""
    return new_place()
