"""What HTTP and the OpenAPI document promise, beyond single routes."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.integration.gateway.conftest import Gateway, Person

pytestmark = pytest.mark.integration


@pytest.fixture
async def anyone(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as http:
        yield http


async def test_a_wrong_method_names_all_methods_of_the_path(anyone: httpx.AsyncClient) -> None:
    for prefix in ("", "/api/v1"):
        answer = await anyone.put(f"{prefix}/conversations/x")
        assert answer.status_code == 405
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH"
        assert answer.json()["type"].endswith(":method-not-allowed")


async def test_options_names_the_methods_of_a_path(anyone: httpx.AsyncClient) -> None:
    answer = await anyone.options("/documents")
    assert answer.status_code == 204
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_an_absent_path_is_a_problem(anyone: httpx.AsyncClient) -> None:
    for method in ("GET", "OPTIONS", "TRACE"):
        answer = await anyone.request(method, "/nowhere")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "body",
    [
        {"stream": "yes"},
        {"stream": 1},
        {"top_k": "5"},
        {"top_k": True},
        {"top_k": 5.5},
        {"top_k": 10**400},
        {"message": 5},
        {"message": ["a"]},
        {"document_ids": "x"},
        {"conversation_id": 5},
    ],
)
async def test_no_value_is_converted_to_another_type(
    person: Person, body: dict[str, object]
) -> None:
    answer = await person.http.post("/chat", json={"message": "Hello?", **body})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].startswith(f"/body/{next(iter(body))}")


@pytest.mark.parametrize(
    ("body", "flaws"),
    [
        ({"document_ids": "x"}, [("/body/document_ids", "Input should be an array")]),
        ({"document_ids": ["x"]}, [("/body/document_ids/0", "Input should be a UUID")]),
        ({"a/b": 1}, [("/body/a~1b", "There is no such field")]),
    ],
)
async def test_a_flaw_names_its_field_and_nothing_of_our_making(
    person: Person, body: dict[str, object], flaws: list[tuple[str, str]]
) -> None:
    answer = await person.http.post("/chat", json={"message": "Hello?", **body})
    problem = answer.json()
    assert [(each["pointer"], each["detail"]) for each in problem["errors"]] == flaws
    assert problem["detail"] == ": ".join(flaws[0])


async def test_an_integer_may_be_written_with_a_fraction_of_zero(person: Person) -> None:
    answer = await person.http.post("/chat", json={"message": "Hello?", "top_k": 5.0})
    assert answer.status_code == 200


@pytest.mark.parametrize("body", [b"{", b'{"message": NaN}', b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_json_is_refused(person: Person, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = await person.http.post("/chat", content=body, headers=headers)
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_document_says_who_may_call_each_operation(anyone: httpx.AsyncClient) -> None:
    document = (await anyone.get("/openapi.json")).json()
    upload = document["paths"]["/documents"]["post"]
    assert upload["x-required-role"] == "member"
    assert upload["x-required-scope"] == "documents:write"
    assert upload["security"] == [{"bearer": []}, {"api_key": []}]
    assert {"400", "401", "403", "413", "429"} <= upload["responses"].keys()
    register = document["paths"]["/auth/register"]["post"]
    assert "x-required-role" not in register
    assert "security" not in register


class TestFromABrowser:
    """Errors must be readable to pages of allowed origins, unexpected ones too."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"cors_origins": "https://chat.example.com"}

    async def test_unexpected_errors_carry_the_cors_headers(
        self, gateway: Gateway, anyone: httpx.AsyncClient
    ) -> None:
        async def broken() -> None:
            raise RuntimeError("a secret")

        gateway.app.add_api_route("/broken", broken)
        answer = await anyone.get("/broken", headers={"origin": "https://chat.example.com"})
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert answer.headers["access-control-allow-origin"] == "https://chat.example.com"
