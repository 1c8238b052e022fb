"""Calling an operation of the table, with ids of somebody's things, and comparing answers."""

import json
import re
from collections.abc import Iterator, Mapping
from string import Template

import httpx
from fastapi import FastAPI

from services.gateway.rights import operations
from tests.integration.gateway.security.rights import ALIASES, KINDS, NAMES, PAGES, TABLE, Expected

_PARAMETER = re.compile(r"{([^}]+)}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+]00:00)")
_CREATED = re.compile(r'"created":\d+')
_TRACE = re.compile(r'"trace_id":"[0-9a-f]+"')
_UNSTABLE_HEADERS = {"date", "x-request-id", "ratelimit", "ratelimit-policy", "content-length"}


def spelled(app: FastAPI) -> dict[str, list[str]]:
    """Return the operations of an application by their canonical names, with every spelling."""
    found: dict[str, list[str]] = {}
    for method, path, _ in operations(app.routes):
        if path not in PAGES:
            bare = f"{method} {path.removeprefix('/api/v1')}"
            found.setdefault(ALIASES.get(bare, bare), []).append(f"{method} {path}")
    return found


def without_row(app: FastAPI) -> set[str]:
    """Return the operations that nobody has an expectation for."""
    return spelled(app).keys() - TABLE.keys()


def kinds_of(operation: str) -> set[str]:
    """Return the kinds of things whose ids an operation takes."""
    expected = TABLE[operation]
    named = {KINDS[name] for name in _PARAMETER.findall(operation) if name not in NAMES}
    text = json.dumps([expected.body, expected.form, expected.query])
    return named | set(Template(text).get_identifiers())


async def call(
    client: httpx.AsyncClient, spelling: str, expected: Expected, ids: Mapping[str, str]
) -> httpx.Response:
    """Call an operation with these ids, by kind."""
    method, path = spelling.split(" ")
    path = _PARAMETER.sub(lambda match: NAMES.get(match[1]) or ids[KINDS[match[1]]], path)
    content: dict[str, object] = {}
    if expected.form is not None:
        data = json.loads(Template(json.dumps(expected.form)).substitute(ids))
        content = {"data": data, "files": {"file": ("a.txt", b"Some words.", "text/plain")}}
    elif expected.body is not None:
        content = {"json": json.loads(Template(json.dumps(expected.body)).substitute(ids))}
    query = json.loads(Template(json.dumps(expected.query)).substitute(ids))
    return await client.request(method, path, params=query, **content)


def error_type(answer: httpx.Response) -> str:
    """Return what kind of error an answer is: a problem's type, or that of OpenAI's API."""
    body = json.loads(answer.content)
    if answer.url.path.startswith("/v1/"):
        assert answer.headers["content-type"] == "application/json"
        return str(body["error"]["type"])
    assert answer.headers["content-type"] == "application/problem+json"
    return str(body["type"].rpartition(":")[2])


def seen(answer: httpx.Response) -> tuple[int, str, dict[str, str]]:
    """Return all that a caller can tell of an answer, ids and times blanked."""
    text = _CREATED.sub("<time>", _TIME.sub("<time>", _UUID.sub("<id>", answer.text)))
    text = _TRACE.sub("", text)
    headers = {k: v for k, v in answer.headers.items() if k not in _UNSTABLE_HEADERS}
    return answer.status_code, text, headers


def rows(*, public: bool = False) -> Iterator[str]:
    """Yield the operations that need credentials, or those that do not."""
    for operation, expected in TABLE.items():
        if (expected.role is None) is public:
            yield operation
