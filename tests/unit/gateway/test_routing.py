"""Routers that look at the beginning of a path answer as FastAPI's own do."""

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient

from services.gateway.routing import PrefixRouter

_PATHS = ["/", "/a", "/ab", "/b", "/c", "/people/1", "/people/one/two", "/%70eople/1", "/1/people"]
_CALLS = [(method, path) for path in _PATHS for method in ("GET", "POST", "DELETE")]


def _app(kind: type[APIRouter]) -> FastAPI:
    letters, people, numbers, versioned = (
        kind(),
        kind(prefix="/people"),
        kind(),
        kind(prefix="/api/v1"),
    )

    @letters.get("/a")
    @letters.get("/b")
    @letters.delete("/b")
    def letter() -> str:
        return "letter"

    @people.get("/{person:int}")
    @people.post("/{person:int}")
    def person(person: int) -> str:
        return f"person {person}"

    @numbers.get("/{number}/people")
    def number(number: str) -> str:
        return f"number {number}"

    app = FastAPI()
    for router in (letters, people, numbers):
        app.include_router(router)
        versioned.include_router(router)
    app.include_router(versioned)
    return app


@pytest.mark.parametrize("prefix", ["", "/api/v1", "/api/v2"])
def test_each_path_and_method_has_the_answer_that_fastapis_router_gives(prefix: str) -> None:
    with TestClient(_app(PrefixRouter)) as quick, TestClient(_app(APIRouter)) as plain:
        statuses = set()
        for method, path in _CALLS:
            answer = quick.request(method, prefix + path)
            expected = plain.request(method, prefix + path)
            assert (answer.status_code, answer.text) == (expected.status_code, expected.text)
            assert answer.headers == expected.headers
            statuses.add(answer.status_code)
    assert statuses == ({404} if prefix == "/api/v2" else {200, 404, 405})
