"""What the gateway answers while another part is away."""

import time

import pytest

from tests.integration.gateway.conftest import NOBODY, Person


@pytest.fixture
def overrides() -> dict[str, object]:
    return {"serving_url": NOBODY}


async def test_without_the_serving_plane_a_question_is_refused_at_once_and_not_kept(
    person: Person,
) -> None:
    for body in ({"message": "How long?"}, {"message": "How long?", "stream": True}):
        started = time.monotonic()
        response = await person.http.post("/chat", json=body)
        assert response.status_code == 503
        assert response.headers["retry-after"]
        assert time.monotonic() - started < 5
    assert (await person.http.get("/conversations")).json()["items"] == []
    usage = (await person.http.get("/billing/usage")).json()
    assert usage["quotas"]["messages"]["used"] == 0
    assert (await person.http.post("/search", json={"query": "x"})).status_code == 503


async def test_without_other_parts_the_gateway_says_which_are_away(person: Person) -> None:
    ready = await person.http.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json()["status"] == "degraded"
    states = {name: part["status"] for name, part in ready.json()["parts"].items()}
    assert states == {
        "database": "ok",
        "objects": "ok",
        "chat_log": "ok",
        "redis": "ok",
        "data": "unavailable",
        "serving": "unavailable",
        "generator": "unavailable",
    }
    assert (await person.http.get("/health/live")).json()["status"] == "ok"


async def test_without_dagster_an_upload_waits(person: Person) -> None:
    upload = await person.http.post("/documents", files={"file": ("a.txt", b"hello")})
    assert upload.status_code == 202
    job = (await person.http.get(f"/jobs/{upload.json()['job_id']}")).json()
    assert job["status"] == "queued"


class TestWithoutTheObjectStore:
    """Its address is one where nobody listens."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        keys = {"s3_access_key_id": "id", "s3_secret_access_key": "secret"}
        return {"s3_bucket": "files", "s3_endpoint": NOBODY, **keys}

    async def test_readiness_names_it(self, person: Person) -> None:
        ready = (await person.http.get("/health/ready")).json()
        assert ready["parts"]["objects"]["status"] == "unavailable"
        assert ready["status"] == "degraded"
