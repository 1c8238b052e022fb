"""`polyplane doctor` tells what the chunk store is and can."""

from planes.shared.stores.chunk_settings import ChunkStoreSettings
from services.embedded.store_diagnosis import diagnose_chunk_store


def test_the_database_as_chunk_store_is_no_further_server() -> None:
    assert list(diagnose_chunk_store(ChunkStoreSettings.of({}))) == []


def test_a_mongodb_without_search_is_told_with_its_remedy(mongo_url: str) -> None:
    settings = ChunkStoreSettings.of({"MONGO_URL": mongo_url})
    (finding,) = diagnose_chunk_store(settings)
    assert (finding.subject, finding.verdict) == ("Chunk store", "bad")
    assert "MONGO_EXACT_SEARCH=true" in finding.remedy


def test_a_mongodb_that_can_be_used_is_told(mongo_url: str) -> None:
    settings = ChunkStoreSettings.of({"MONGO_URL": mongo_url, "MONGO_EXACT_SEARCH": "true"})
    (finding,) = diagnose_chunk_store(settings)
    assert finding.verdict == "good"
    assert "search: exact" in finding.found
