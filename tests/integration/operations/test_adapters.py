"""A backup of embedded stores goes into each of the others, and comes back the same."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from planes.shared.errors import Conflict
from planes.shared.stores.object_settings import ObjectStoreSettings, object_store
from services.operations.backup import back_up
from services.operations.restore import Restore
from tests.contract.qdrant import QdrantParts
from tests.integration.operations.world import Place, Tenant
from tests.servers.cql_fixtures import cql_settings, drop, migrate_when_ready
from tests.servers.qdrant import API_KEY

pytestmark = pytest.mark.integration


@pytest.fixture(params=["mongo", "qdrant", "s3", "cassandra"])
def elsewhere(request: pytest.FixtureRequest, new_place: Callable[..., Place]) -> Iterator[Place]:
    """Empty stores, of which one is not embedded mode's."""
    if request.param == "mongo":
        url: str = request.getfixturevalue("mongo_url")
        named = {"MONGO_URL": url, "MONGO_EXACT_SEARCH": True, "MONGO_DATABASE": uuid4().hex}
        yield new_place(chunks=named)
    elif request.param == "qdrant":
        url = request.getfixturevalue("qdrant_url")
        prefix = f"test_{uuid4().hex}_"
        yield new_place(
            chunks={"QDRANT_URL": url, "QDRANT_API_KEY": API_KEY, "QDRANT_PREFIX": prefix}
        )
        parts = QdrantParts(url, {})
        parts._prefix = prefix
        parts.remove()
    elif request.param == "s3":
        values = {"s3_prefix": uuid4().hex, **request.getfixturevalue("s3_values")}
        settings = ObjectStoreSettings.model_validate(values)
        yield new_place(objects=object_store(settings))
    else:
        yield new_place(log=request.getfixturevalue("keyspace"))


@pytest.fixture
def keyspace(cql_values: dict[str, object]) -> Iterator[dict[str, object]]:
    """Settings of a chat log in a keyspace of its own."""
    values = {**cql_values, "cql_keyspace": f"test_{uuid4().hex[:20]}"}
    migrate_when_ready(cql_settings(values))
    yield values
    drop(cql_settings(values))


async def test_a_backup_is_restored_into_other_adapters(
    place: Place, tenants: list[Tenant], elsewhere: Place, tmp_path: Path
) -> None:
    async with place.open() as stores:
        backup = await back_up(stores, tmp_path / "backups", report=_nothing)
    async with elsewhere.open(are_new=True) as stores:
        await Restore(backup, stores, report=_nothing).run(lambda: None)
    async with elsewhere.open() as stores:  # where the database says that things are
        again = await back_up(stores, tmp_path / "again", report=_nothing)
    assert again.manifest.tenants == backup.manifest.tenants
    for tenant in tenants:
        for name in (f"chunks/{tenant.tenant_id}", f"messages/{tenant.tenant_id}"):
            with backup.file(f"{name}.jsonl.gz") as one, again.file(f"{name}.jsonl.gz") as two:
                assert sorted(one) == sorted(two)


async def test_a_keyspace_that_holds_messages_is_refused(
    place: Place,
    tenants: list[Tenant],
    new_place: Callable[..., Place],
    keyspace: dict[str, object],
    tmp_path: Path,
) -> None:
    async with place.open() as stores:
        backup = await back_up(stores, tmp_path / "backups", report=_nothing)
    async with new_place(log=keyspace).open(are_new=True) as stores:
        await stores.chat_log.check()
        assert await stores.chat_log.is_empty()  # what `check` writes is nobody's
        await stores.chat_log.append(tenants[0].messages)
    async with new_place(log=keyspace).open(are_new=True) as stores:
        with pytest.raises(Conflict, match="chat log is not empty"):
            await Restore(backup, stores, report=_nothing).run(lambda: None)


def _nothing(stage: str) -> None:
    del stage
