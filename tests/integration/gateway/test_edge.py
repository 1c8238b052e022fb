"""What the gateway's edge makes of requests, whatever their route."""

import asyncio
import json
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration.gateway.conftest import PASSWORD, Gateway, Person
from tests.integration.gateway.plane import FakePlane

pytestmark = pytest.mark.integration


@pytest.fixture
async def anyone(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as http:
        yield http


async def raw(gateway: Gateway, *pieces: bytes, pause_s: float = 0) -> tuple[int, dict[str, str]]:
    """Send pieces of a request with pauses; return the status and the problem."""
    address = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause_s)
    async with asyncio.timeout(20):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split(b" ")[1]), json.loads(body)


@pytest.mark.parametrize("hosts", [b"", b"host: a\r\nhost: b\r\n"])
async def test_a_request_names_one_host(gateway: Gateway, hosts: bytes) -> None:
    request = b"GET /health HTTP/1.1\r\n" + hosts + b"connection: close\r\n\r\n"
    status, problem = await raw(gateway, request)
    assert status == 400
    assert "Host" in problem["detail"]


async def test_a_request_of_http_1_0_needs_no_host(gateway: Gateway) -> None:
    status, _ = await raw(gateway, b"GET /health HTTP/1.0\r\n\r\n")
    assert status == 200


async def test_a_coded_body_is_refused(person: Person) -> None:
    for path in ("/chat", "/documents"):
        headers = {"content-encoding": "gzip"}
        answer = await person.http.post(path, json={"message": "Why?"}, headers=headers)
        assert answer.status_code == 415
        assert "gzip" in answer.json()["detail"]
        assert answer.headers["accept-encoding"] == "identity"
    headers = {"content-encoding": "identity"}
    answer = await person.http.post("/chat", json={"message": "Why?"}, headers=headers)
    assert answer.status_code == 200


async def test_a_head_is_answered_like_a_get(person: Person) -> None:
    made = await person.http.post("/documents", files={"file": ("a.txt", b"hello")})
    document_id = made.json()["document"]["id"]
    paths = (
        "/health",
        "/health/live",
        "/documents",
        f"/documents/{document_id}",
        f"/documents/{document_id}/content",
        "/conversations",
        "/.well-known/jwks.json",
        "/docs",
        "/openapi.json",
        "/api/v1/documents",
        "/auth/me/export",
    )
    for path in paths:
        got, head = await person.http.get(path), await person.http.head(path)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers.get("content-length") == got.headers.get("content-length")
        assert head.headers["content-type"] == got.headers["content-type"]
    assert (await person.http.head("/conversations/nothing")).status_code == 422
    assert (await person.http.head("/nowhere")).status_code == 404
    assert (await person.http.head("/chat")).status_code == 405


async def test_the_root_leads_to_the_documentation(anyone: httpx.AsyncClient) -> None:
    answer = await anyone.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")


async def test_an_absent_path_says_where_the_others_are_listed(anyone: httpx.AsyncClient) -> None:
    problem = (await anyone.get("/nowhere")).json()
    assert "/docs" in problem["detail"]
    assert problem["type"] == "urn:polyplane:problem:not-found"


async def test_no_answer_is_guessed_to_be_of_another_type(person: Person) -> None:
    for path in ("/health", "/docs", "/nowhere", "/auth/me", "/static-offline-docs/favicon.png"):
        answer = await person.http.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff", path


async def test_answers_are_not_kept_but_public_ones(person: Person) -> None:
    email = {"email": "nobody@example.com", "password": PASSWORD}
    assert (await person.http.post("/auth/login", json=email)).headers[
        "cache-control"
    ] == "no-store"
    for path in ("/auth/me", "/documents", "/health"):
        assert (await person.http.get(path)).headers["cache-control"] == "no-store"
    jwks = await person.http.get("/.well-known/jwks.json")
    assert jwks.headers["cache-control"].startswith("public")
    assert "cache-control" not in (await person.http.get("/docs")).headers


async def test_the_documentation_runs_its_own_scripts_only(anyone: httpx.AsyncClient) -> None:
    for path in ("/docs", "/redoc"):
        policy = (await anyone.get(path)).headers["content-security-policy"]
        scripts = next(x for x in policy.split("; ") if x.startswith("script-src"))
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in scripts
    assert "sha256-" in (await anyone.get("/docs")).headers["content-security-policy"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"email": "a@example.com"}, "/body/password: This field is required"),
        ([], "/body: Input should be an object"),
        ({"email": "a@example.com", "password": PASSWORD, "x": 1}, "There is no such field"),
    ],
)
async def test_mistakes_are_named_in_words_of_the_api(
    anyone: httpx.AsyncClient, body: object, said: str
) -> None:
    answer = await anyone.post("/auth/login", json=body)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


async def test_too_many_items_are_counted_in_plain_words(person: Person) -> None:
    body = {"name": "k", "scopes": ["chat"] * 100}
    detail = (await person.http.post("/auth/api-keys", json=body)).json()["detail"]
    assert "items, not 100" in detail
    assert "validation" not in detail


async def test_operations_have_short_names_of_their_own(anyone: httpx.AsyncClient) -> None:
    document = (await anyone.get("/openapi.json")).json()
    names = [
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    ]
    assert len(set(names)) == len(names)
    assert {"register", "post_document", "post_chat", "get_usage"} <= set(names)
    assert all(name.isidentifier() and len(name) < 30 for name in names)


class TestSlow:
    """With a short time in which a body may bring nothing."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"body_idle_s": 1.0}

    async def test_a_body_that_stops_is_refused(self, gateway: Gateway) -> None:
        head = b"POST /auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        status, problem = await raw(gateway, head + b"content-length: 10\r\n\r\n", b"{")
        assert status == 408
        assert problem["type"] == "urn:polyplane:problem:request-timeout"
        assert problem["trace_id"]

    async def test_a_slow_but_steady_body_is_taken(self, gateway: Gateway) -> None:
        body = json.dumps({"email": "a@example.com", "password": PASSWORD}).encode()
        head = b"POST /auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        head += b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        pieces = [body[n : n + 12] for n in range(0, len(body), 12)]
        status, _ = await raw(gateway, head, *pieces, pause_s=0.4)
        assert status == 401

    async def test_a_stalled_upload_is_refused(self, gateway: Gateway, person: Person) -> None:
        head = (
            "POST /documents HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n"
            f"authorization: {person.http.headers['authorization']}\r\n"
            "content-type: multipart/form-data; boundary=b\r\n\r\n"
        )
        part = b"--b\r\ncontent-disposition: form-data; name=file; filename=a.txt\r\n\r\nhello"
        status, problem = await raw(gateway, head.encode(), part)
        assert status == 408
        assert problem["title"] == "Request timeout"

    async def test_a_long_answer_is_not_a_stalled_body(
        self, person: Person, plane: FakePlane
    ) -> None:
        plane.words, plane.pause_s = ["word "] * 6, 0.4
        body = {"message": "Why?", "stream": True}
        answer = await person.http.post("/chat", json=body)
        assert "event: done" in answer.text
