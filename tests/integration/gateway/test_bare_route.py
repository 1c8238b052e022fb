"""`POST /chat` in front of the layers answers as they and the declared route do."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.gateway.conftest import Gateway, Person

_BARE = "application/json"
_DECLARED = "application/json; charset=utf-8"  # which the bare route leaves to the declared one
_QUESTION = {"message": "How long is the warranty?", "mode": "open"}


async def _asked(
    person: Person, body: bytes, content_type: str, **headers: str
) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Ask, and return status, headers and body without what is different each time."""
    answer = await person.http.post(
        "/chat", content=body, headers={"content-type": content_type, **headers}
    )
    told = answer.json()
    for name in ("id", "conversation_id", "trace_id"):
        told.pop(name, None)
    for name in ("id", "created_at"):
        told.get("message", {}).pop(name, None)
    left_out = {"date", "x-request-id", "content-length", "ratelimit"}
    return answer.status_code, {k: v for k, v in answer.headers.items() if k not in left_out}, told


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(_QUESTION).encode(),
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"message": "\xff"}',
        b'{"message": " "}',
        b'{"message": 5}',
        b'{"message": "hello", "top_k": "5"}',
        b'{"message": "hello", "unknown": 1}',
        b'{"message": "hello", "conversation_id": "no id"}',
        b'{"message": "hello", "conversation_id": "01a1fd26-1267-7285-bf84-61d8d204dc7a"}',
        b"[" * 100_000,
    ],
)
async def test_both_ways_tell_the_same(person: Person, body: bytes) -> None:
    assert await _asked(person, body, _BARE) == await _asked(person, body, _DECLARED)


async def test_both_ways_refuse_the_same_callers(person: Person) -> None:
    question = json.dumps(_QUESTION).encode()
    for headers in ({"authorization": ""}, {"authorization": "Basic x"}, {"idempotency-key": ""}):
        bare = await _asked(person, question, _BARE, **headers)
        assert bare == await _asked(person, question, _DECLARED, **headers)
        assert bare[0] in {400, 401}


async def test_both_ways_know_the_same_idempotency_keys(person: Person) -> None:
    question, key = json.dumps(_QUESTION).encode(), {"idempotency-key": "a-key"}
    _, headers, told = await _asked(person, question, _BARE, **key)
    assert "idempotency-replayed" not in headers
    status, headers, again = await _asked(person, question, _DECLARED, **key)
    assert (status, headers["idempotency-replayed"], again) == (200, "true", told)


async def test_both_ways_close_the_connection_of_a_process_that_ends(
    gateway: Gateway, person: Person
) -> None:
    gateway.app.state.drain.begin()
    question = json.dumps(_QUESTION).encode()
    bare = await _asked(person, question, _BARE)
    assert bare[1]["connection"] == "close"
    assert bare == await _asked(person, question, _DECLARED)


async def test_both_ways_are_traced_and_counted(gateway: Gateway, person: Person) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    question = json.dumps(_QUESTION).encode()
    for content_type in (_BARE, _DECLARED):
        answer = await person.http.post(
            "/chat",
            content=question,
            headers={
                "content-type": content_type,
                "traceparent": f"00-{trace_id}-00f067aa0ba902b7-01",
            },
        )
        assert answer.headers["x-request-id"] == trace_id
        assert answer.headers["ratelimit"].startswith('"requests";r=')
    registry = gateway.app.state.metrics.registry
    labels = {"method": "POST", "route": "/chat", "status": "200"}
    assert registry.get_sample_value("polyplane_gateway_requests_total", labels) == 2


async def test_both_ways_stream_the_same_fields(person: Person) -> None:
    told = []
    for content_type in (_BARE, _DECLARED):
        answer = await person.http.post(
            "/chat",
            content=json.dumps({**_QUESTION, "stream": True}).encode(),
            headers={"content-type": content_type},
        )
        left_out = {"date", "x-request-id", "ratelimit"}
        told.append({k: v for k, v in answer.headers.items() if k not in left_out})
    assert told[0] == told[1]
    assert told[0]["cache-control"] == "no-store"


async def test_what_is_not_plain_is_left_to_the_layers(person: Person) -> None:
    async def in_parts() -> AsyncIterator[bytes]:
        yield b'{"message": "How long is'
        yield b' the warranty?", "mode": "open"}'

    json_type = {"content-type": _BARE}
    answer = await person.http.post("/chat", content=in_parts(), headers=json_type)
    assert answer.status_code == 200
    coded = {**json_type, "content-encoding": "gzip"}
    assert (await person.http.post("/chat", content=b"x", headers=coded)).status_code == 415
    large = b'{"message": "' + b"x" * 2_000_000 + b'"}'
    assert (await person.http.post("/chat", content=large, headers=json_type)).status_code == 413


async def test_other_methods_of_the_path_are_the_router_s(gateway: Gateway, person: Person) -> None:
    answer = await person.http.get("/chat")
    assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")
    for path in ("/chat/message", "/api/v1/chat"):
        assert (await person.http.post(path, json=_QUESTION)).status_code == 200
    assert (await person.http.post(f"{gateway.url}/v1/chat", json=_QUESTION)).status_code == 404
