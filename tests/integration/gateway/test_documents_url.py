"""Documents fetched from addresses that clients name: the public internet's and nobody else's."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from services.gateway.documents import fetching
from tests.integration.gateway.conftest import Gateway, Person, served
from tests.integration.gateway.uploading import expect_nothing, files_of

pytestmark = pytest.mark.integration
TEXT = b"What the web says."


class Web:
    """A web server, and what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[Request] = []

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/hops/{left:int}", self._hop),
                Route("/to", self._to),
                Route("/endless", self._endless),
                Route("/slow", self._slow),
                Route("/gzip", self._gzip),
                Route("/announced", self._announced),
                Route("/cut", self._cut),
                Route("/status/{status:int}", self._status),
                Route("/{path:path}", self._file),
            ]
        )

    async def _file(self, request: Request) -> Response:
        self.seen.append(request)
        headers = {}
        if disposition := request.query_params.get("disposition"):
            headers["content-disposition"] = disposition
        media_type = request.query_params.get("type", "text/plain")
        return Response(TEXT, headers=headers, media_type=media_type)

    async def _hop(self, request: Request) -> Response:
        left = request.path_params["left"]
        return RedirectResponse(f"/hops/{left - 1}" if left else "/a.txt", 302)

    async def _to(self, request: Request) -> Response:
        return RedirectResponse(request.query_params["url"], 307)

    async def _endless(self, _: Request) -> Response:
        async def blocks() -> AsyncIterator[bytes]:
            for _ in range(100):  # of more than anybody takes
                yield b"x" * 65_536
                await asyncio.sleep(0.001)

        return StreamingResponse(blocks(), media_type="text/plain")

    async def _slow(self, _: Request) -> Response:
        async def blocks() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b"x"
                await asyncio.sleep(0.05)

        return StreamingResponse(blocks(), media_type="text/plain")

    async def _gzip(self, _: Request) -> Response:
        return Response(gzip.compress(TEXT), headers={"content-encoding": "gzip"})

    async def _announced(self, _: Request) -> Response:
        return Response(b"", headers={"content-length": "5000000"})

    async def _cut(self, _: Request) -> Response:
        return Response(b"x", headers={"content-length": "100"}, media_type="text/plain")

    async def _status(self, request: Request) -> Response:
        return PlainTextResponse("no", request.path_params["status"])


@pytest.fixture
def overrides() -> dict[str, object]:
    return {"max_file_bytes": 1_000_000, "outbound_networks": "127.0.0.0/8, ::1/128"}


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    web = Web()
    async with served(web.app()) as url:
        web.url = url
        yield web


@pytest.fixture
async def admin(database_urls: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_urls["admin"])
    yield connection
    await connection.close()


async def fetch(person: Person, url: str, **more: object) -> httpx.Response:
    return await person.http.post("/documents/url", json={"url": url, **more})


async def test_a_file_is_fetched_and_becomes_a_document(
    person: Person, gateway: Gateway, web: Web
) -> None:
    answer = await fetch(person, f"{web.url}/a/b/handbook.txt?x=1#part", tags=["b", "a"])
    assert answer.status_code == 202, answer.text
    document = answer.json()["document"]
    assert (document["name"], document["tags"]) == ("handbook.txt", ["a", "b"])
    assert document["size_bytes"] == len(TEXT)
    content = await person.http.get(f"/documents/{document['id']}/content")
    assert content.content == TEXT
    (asked,) = web.seen
    assert asked.headers["host"] == web.url.removeprefix("http://")
    assert asked.headers["accept-encoding"] == "identity"
    assert "authorization" not in asked.headers
    again = await fetch(person, f"{web.url}/other.txt")
    assert again.json()["document"]["id"] == document["id"], "the same bytes"
    assert again.json()["job_id"] == answer.json()["job_id"]
    assert files_of(gateway) == ["original"]


async def test_a_file_is_named_by_its_server_or_its_path(person: Person, web: Web) -> None:
    for path, name in (
        ('/x?disposition=attachment; filename="report.txt"', "report.txt"),
        ("/x?disposition=attachment; filename*=UTF-8''R%25C3%25A4te.txt", "Räte.txt"),
        ('/x?disposition=attachment; filename="../../etc/passwd.txt"', "passwd.txt"),
        ("/x.txt?disposition=attachment; filename*=a; filename*0=b", "x.txt"),
        ("/R%C3%A4te%20und%20Co.txt", "Räte und Co.txt"),
        ("/page.php?type=text/html", "page.php"),
        ("/about?type=TEXT/HTML", "about"),
        ("/?type=text/html; charset=utf-8", "127.0.0.1"),
        ("/notes.MD?type=text/plain", "notes.MD"),
    ):
        answer = await fetch(person, web.url + path)
        assert answer.status_code == 202, (path, answer.text)
        assert answer.json()["document"]["name"] == name
        await person.http.delete(f"/documents/{answer.json()['document']['id']}")


async def test_redirects_are_followed_five_times(person: Person, web: Web) -> None:
    assert (await fetch(person, f"{web.url}/hops/4")).status_code == 202
    answer = await fetch(person, f"{web.url}/hops/5")
    assert answer.status_code == 422
    assert "redirects" in answer.json()["detail"]


async def test_what_cannot_be_taken_leaves_nothing(
    person: Person,
    gateway: Gateway,
    web: Web,
    admin: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for path, status in (
        ("/status/404", 422),
        ("/status/500", 422),
        ("/status/204", 422),
        ("/status/304", 422),
        ("/gzip", 422),
        ("/announced", 413),
        ("/endless", 413),
        ("/cut", 422),
        ("/a.exe?type=application/octet-stream", 415),
        ("/picture?type=image/png", 415),
        ("/to?url=ftp://127.0.0.1/a.txt", 422),
        ("/to?url=file:///etc/passwd", 422),
        ("/to?url=http://169.254.169.254/latest/meta-data", 422),
        ("/to?url=http://10.0.0.1/a.txt", 422),
        ("/to?url=http://user:password@127.0.0.1/a.txt", 422),
        ("/to?url=http://127.0.0.1:22/a.txt", 422),
        ("/to?url=", 422),
        ("/to?url=http://xn--a/a.txt", 422),
    ):
        answer = await fetch(person, web.url + path)
        assert answer.status_code == status, (path, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    monkeypatch.setattr(fetching, "_TOTAL_S", 0.5)
    assert (await fetch(person, f"{web.url}/slow")).status_code == 422
    closed = await fetch(person, "http://127.0.0.1:9999/a.txt")
    assert closed.status_code == 422
    await expect_nothing(gateway, admin)


async def test_a_repeated_request_fetches_once(person: Person, web: Web) -> None:
    key, body = {"idempotency-key": str(uuid4())}, {"url": f"{web.url}/a.txt"}
    first = await person.http.post("/documents/url", json=body, headers=key)
    again = await person.http.post("/documents/url", json=body, headers=key)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert len(web.seen) == 1


class TestWhereNoNetworkIsAllowed:
    """The default: only the public internet is reached."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {}

    async def test_addresses_that_are_not_public_are_refused(
        self, person: Person, gateway: Gateway, web: Web, admin: asyncpg.Connection
    ) -> None:
        port = web.url.rpartition(":")[2]
        for url in (
            web.url,
            f"http://localhost:{port}/a.txt",
            f"http://LOCALHOST.:{port}/a.txt",
            f"http://2130706433:{port}/a.txt",
            f"http://0x7f000001:{port}/a.txt",
            f"http://0177.0.0.1:{port}/a.txt",
            f"http://127.1:{port}/a.txt",
            f"http://0:{port}/a.txt",
            f"http://0.0.0.0:{port}/a.txt",
            f"http://[::1]:{port}/a.txt",
            f"http://[::ffff:127.0.0.1]:{port}/a.txt",
            f"http://[::ffff:7f00:1]:{port}/a.txt",
            f"http://[::127.0.0.1]:{port}/a.txt",
            f"http://[64:ff9b::7f00:1]:{port}/a.txt",
            f"http://[64:ff9b:1::7f00:1]:{port}/a.txt",
            f"http://[2002:7f00:1::]:{port}/a.txt",
            "http://[fe80::1]/a.txt",
            "http://[fc00::1]/a.txt",
            "http://[ff02::1]/a.txt",
            "http://[::]/a.txt",
            "http://10.1.2.3/a.txt",
            "http://172.16.0.1/a.txt",
            "http://192.168.1.1/a.txt",
            "http://100.64.0.1/a.txt",
            "http://169.254.169.254/latest/meta-data/",
            "http://192.0.0.192/a.txt",
            "http://198.18.0.1/a.txt",
            "http://224.0.0.1/a.txt",
            "http://255.255.255.255/a.txt",
            "http://nowhere.invalid/a.txt",
        ):
            answer = await fetch(person, url)
            assert answer.status_code == 422, (url, answer.text)
            detail = answer.json()["detail"]
            assert "cannot be reached from here" in detail or "is no address" in detail, url
        assert web.seen == []
        await expect_nothing(gateway, admin)

    async def test_what_is_no_web_address_is_refused(self, person: Person) -> None:
        for url in (
            "file:///etc/passwd",
            "ftp://example.com/a.txt",
            "gopher://example.com/a",
            "//example.com/a.txt",
            "example.com/a.txt",
            "http:///a.txt",
            "http://user@example.com/a.txt",
            "https://user:password@example.com/a.txt",
            "http://example.com:22/a.txt",
            "http://example.com:99999/a.txt",
            "http://example.com:x/a.txt",
            "http://[::1/a.txt",
            "http://exa mple.com/a.txt",
            "http://example.com/a\r\nHost: x",
            "http://" + "x" * 3000,
        ):
            answer = await fetch(person, url)
            assert answer.status_code == 422, (url, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"


class TestTurnedOff:
    """`GATEWAY_URL_UPLOADS=false`."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"url_uploads": False, "outbound_networks": "127.0.0.0/8"}

    async def test_nothing_is_fetched(self, person: Person, web: Web) -> None:
        answer = await fetch(person, f"{web.url}/a.txt")
        assert answer.status_code == 403
        assert web.seen == []
