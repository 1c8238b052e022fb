"""`polyplane doctor` tells what the chunk store is and can."""

from services.embedded.store_diagnosis import diagnose_chunk_store


def test_the_database_as_chunk_store_is_no_further_server() -> None:
    assert list(diagnose_chunk_store({})) == []


def test_wrong_settings_are_told_like_any_other_flaw() -> None:
    (finding,) = diagnose_chunk_store({"CHUNK_STORE": "shelf"})
    assert finding.verdict == "bad"
    assert "CHUNK_STORE" in finding.remedy


def test_a_mongodb_without_search_is_told_with_its_remedy(mongo_url: str) -> None:
    (finding,) = diagnose_chunk_store({"MONGO_URL": mongo_url})
    assert (finding.subject, finding.verdict) == ("Chunk store", "bad")
    assert "MONGO_EXACT_SEARCH=true" in finding.remedy


def test_a_mongodb_that_can_be_used_is_told(mongo_url: str) -> None:
    environment = {"MONGO_URL": mongo_url, "MONGO_EXACT_SEARCH": "true"}
    (finding,) = diagnose_chunk_store(environment)
    assert finding.verdict == "good"
    assert "search: exact" in finding.found
