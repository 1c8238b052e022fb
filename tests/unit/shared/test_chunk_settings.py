"""Where chunks are kept follows from the settings, or is refused with what to set."""

import pytest

from planes.shared.settings import SettingsWrong
from planes.shared.stores.chunk_settings import ChunkStoreSettings, chunk_store
from planes.shared.stores.mongo_chunks import MongoChunks
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chunks import PostgresChunks
from planes.shared.stores.qdrant import QdrantChunks

_MONGO = {"MONGO_URL": "mongodb://user:a-secret@127.0.0.1"}
_QDRANT = {"QDRANT_URL": "http://127.0.0.1:6333"}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({}, PostgresChunks),
        (_MONGO, MongoChunks),
        (_QDRANT, QdrantChunks),
        ({"CHUNK_STORE": "postgres", **_MONGO, **_QDRANT}, PostgresChunks),
        ({"CHUNK_STORE": "qdrant", **_MONGO, **_QDRANT}, QdrantChunks),
    ],
)
def test_the_address_that_is_set_chooses_unless_it_is_said(
    values: dict[str, str], kind: type
) -> None:
    database = Database("postgresql://127.0.0.1/none", service="test")
    assert isinstance(chunk_store(ChunkStoreSettings.of(values), database), kind)


def test_a_copy_names_the_other_store() -> None:
    settings = ChunkStoreSettings.of({"CHUNK_STORE": "postgres", **_QDRANT})
    database = Database("postgresql://127.0.0.1/none", service="test")
    assert isinstance(chunk_store(settings, database, "qdrant"), QdrantChunks)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"CHUNK_STORE": "mongo"}, "MONGO_URL"),
        ({"CHUNK_STORE": "qdrant", **_MONGO}, "QDRANT_URL"),
        ({"CHUNK_STORE": "pinecone"}, "postgres"),
        ({**_MONGO, **_QDRANT}, "CHUNK_STORE"),
    ],
)
def test_a_store_without_an_address_and_two_without_a_choice_are_refused(
    values: dict[str, str], named: str
) -> None:
    with pytest.raises(SettingsWrong, match=named) as refused:
        ChunkStoreSettings.of(values)
    assert "a-secret" not in str(refused.value)
