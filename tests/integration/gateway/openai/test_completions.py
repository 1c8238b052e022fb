"""Chat completions with OpenAI's client: the same answers, bills and limits as `/chat`."""

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import openai as openai_package
import pytest
from openai import AsyncOpenAI, OpenAI

from planes.shared.stores.postgres import Database
from planes.shared.wire import CitationOut
from services.gateway.maintenance import expire_unlisted
from tests.integration.gateway.conftest import Gateway, Person, until
from tests.integration.gateway.openai.conftest import api_key
from tests.integration.gateway.plane import FakePlane
from tests.integration.gateway.test_chat import messages_of, usage_of

pytestmark = pytest.mark.integration
QUESTION: Any = [{"role": "user", "content": "How long is the warranty?"}]


async def test_an_answer_carries_its_citations_and_its_bill(
    openai: AsyncOpenAI, person: Person, citation: CitationOut
) -> None:
    answer = await openai.chat.completions.create(model="test-model", messages=QUESTION)
    [choice] = answer.choices
    assert answer.object == "chat.completion"
    assert answer.model == "test-model"
    assert choice.message.role == "assistant"
    assert choice.message.content == "Two years [1]."
    assert choice.finish_reason == "stop"
    assert choice.message.model_extra is not None
    assert choice.message.model_extra["citations"] == [citation.model_dump(mode="json")]
    assert choice.message.model_extra["grounded"] is True
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (40, 3)
    usage = await usage_of(person)
    assert usage["totals"]["messages"] == 1
    assert usage["totals"]["total_tokens"] == usage["quotas"]["tokens"]["used"] == 43


async def test_the_synchronous_client_gets_the_same(gateway: Gateway, person: Person) -> None:
    key = await api_key(person, "chat")

    def ask() -> tuple[str | None, str]:
        with OpenAI(base_url=f"{gateway.url}/v1", api_key=key) as client:
            whole = client.chat.completions.create(model="polyplane", messages=QUESTION)
            parts = client.chat.completions.create(
                model="polyplane", messages=QUESTION, stream=True
            )
            streamed = "".join(part.choices[0].delta.content or "" for part in parts)
            return whole.choices[0].message.content, streamed

    assert await asyncio.to_thread(ask) == ("Two years [1].", "Two years [1].")


async def test_a_stream_ends_with_citations_and_usage(
    openai: AsyncOpenAI, citation: CitationOut
) -> None:
    stream = await openai.chat.completions.create(
        model="test-model",
        messages=QUESTION,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert chunks[0].choices[0].delta.role == "assistant"
    *parts, last, usage = chunks
    assert "".join(part.choices[0].delta.content or "" for part in parts) == "Two years [1]."
    assert [part.choices[0].finish_reason for part in parts] == [None] * len(parts)
    assert last.choices[0].finish_reason == "stop"
    extra = last.choices[0].delta.model_extra or {}
    assert extra["citations"] == [citation.model_dump(mode="json")]
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.total_tokens == 43


async def test_a_stream_without_the_option_has_no_usage(openai: AsyncOpenAI) -> None:
    stream = await openai.chat.completions.create(
        model="test-model", messages=QUESTION, stream=True
    )
    chunks = [chunk async for chunk in stream]
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


async def test_the_clients_own_conversation_goes_to_the_plane(
    openai: AsyncOpenAI, plane: FakePlane
) -> None:
    first = await openai.chat.completions.create(model="polyplane", messages=QUESTION)
    messages: Any = [
        {"role": "system", "content": "Answer in one sentence."},
        *QUESTION,
        first.choices[0].message,  # with all that an answer carries
        {
            "role": "user",
            "content": [{"type": "text", "text": "And for"}, {"type": "text", "text": "cars?"}],
        },
    ]
    await openai.chat.completions.create(
        model="polyplane",
        messages=messages,
        max_completion_tokens=77,
        temperature=0.2,
        user="somebody",
        extra_body={"top_k": 3},
    )
    asked = plane.asked[1]
    assert asked.message == "And for\ncars?"
    assert [(turn.role, turn.content) for turn in asked.history] == [
        ("user", "How long is the warranty?"),
        ("assistant", "Two years [1]."),
    ]
    assert asked.wishes == "Answer in one sentence."
    assert (asked.max_tokens, asked.top_k, asked.mode) == (77, 3, "rag")


async def test_open_chat_is_asked_for_by_a_field_of_ours(
    openai: AsyncOpenAI, plane: FakePlane
) -> None:
    await openai.chat.completions.create(
        model="test-model", messages=QUESTION, extra_body={"mode": "open"}
    )
    assert plane.asked[0].mode == "open"


async def test_its_conversation_is_kept_out_of_the_list_but_not_from_its_user(
    openai: AsyncOpenAI, person: Person
) -> None:
    answer = await openai.chat.completions.create(model="test-model", messages=QUESTION)
    assert answer.model_extra is not None
    assert (await person.http.get("/conversations")).json()["items"] == []
    unlisted = (await person.http.get("/conversations", params={"listed": False})).json()
    assert [each["id"] for each in unlisted["items"]] == [answer.model_extra["conversation_id"]]
    stored = await messages_of(person, answer.model_extra["conversation_id"])
    assert [each["content"] for each in stored] == ["How long is the warranty?", "Two years [1]."]


async def test_what_a_program_asked_long_ago_is_deleted_unless_it_was_rated(
    openai: AsyncOpenAI, person: Person, database_urls: dict[str, str]
) -> None:
    answers = [
        await openai.chat.completions.create(model="test-model", messages=QUESTION)
        for _ in range(3)
    ]
    rated, still_asked, idle = ((each.model_extra or {})["conversation_id"] for each in answers)
    listed = (await person.http.post("/chat", json={"message": "And here?"})).json()
    message_id = (answers[0].choices[0].message.model_extra or {})["message_id"]
    rating = await person.http.post("/feedback", json={"message_id": message_id, "rating": "up"})
    assert rating.status_code == 201, rating.text
    owner = await asyncpg.connect(database_urls["admin"])
    await owner.execute("UPDATE conversations SET created_at = now() - interval '40 days'")
    await owner.execute(
        "UPDATE conversations SET updated_at = created_at WHERE id <> $1", still_asked
    )
    await owner.close()
    database = Database(database_urls["gateway"], service="test")
    await database.open()
    assert await expire_unlisted(database, timedelta(days=41)) == 0
    assert await expire_unlisted(database, timedelta(days=39)) == 1
    await database.close()
    left = (await person.http.get("/conversations", params={"listed": False})).json()["items"]
    assert {each["id"] for each in left} == {rated, still_asked}
    assert (await person.http.get(f"/conversations/{idle}/messages")).status_code == 404
    [kept] = (await person.http.get("/conversations")).json()["items"]
    assert kept["id"] == listed["conversation_id"]


async def test_a_client_that_hangs_up_is_billed_once_for_what_was_produced(
    openai: AsyncOpenAI, person: Person, plane: FakePlane
) -> None:
    plane.hold = asyncio.Event()
    stream = await openai.chat.completions.create(
        model="test-model", messages=QUESTION, stream=True
    )
    seen = ""
    async for chunk in stream:
        seen += chunk.choices[0].delta.content or ""
        if seen == "Two years [1].":
            break
    await stream.close()
    await asyncio.wait_for(plane.hung_up.wait(), 15)

    async def billed() -> bool:
        return (await usage_of(person))["totals"]["messages"] == 1

    await until(billed)
    usage = await usage_of(person)
    assert usage["totals"]["total_tokens"] == usage["quotas"]["tokens"]["used"] == 43


async def test_a_repeated_key_is_answered_again_and_costs_nothing(
    openai: AsyncOpenAI, person: Person, plane: FakePlane
) -> None:
    plane.citations = []  # a repeat blanks quotes of documents that are gone, as this one is
    key = {"idempotency-key": "one question"}
    ask = openai.chat.completions.with_raw_response.create
    first = await ask(model="test-model", messages=QUESTION, extra_headers=key)
    again = await ask(model="test-model", messages=QUESTION, extra_headers=key)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.parse() == first.parse()
    assert (await usage_of(person))["totals"]["messages"] == 1


async def test_a_repeated_stream_is_the_same_answer(openai: AsyncOpenAI, plane: FakePlane) -> None:
    plane.citations = []
    told = []
    for _ in range(2):
        stream = await openai.chat.completions.create(
            model="test-model",
            messages=QUESTION,
            stream=True,
            extra_headers={"idempotency-key": "one stream"},
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        told.append((chunks[0].id, text, chunks[-1].choices[0].delta.model_extra))
    assert told[0] == told[1]


async def test_models_are_listed_and_found(openai: AsyncOpenAI) -> None:
    names = [model.id async for model in openai.models.list()]
    assert "test-model" in names
    assert "polyplane" in names
    assert (await openai.models.retrieve("test-model")).owned_by == "polyplane"


class TestErrors:
    """What OpenAI's client makes of refusals."""

    async def test_an_unknown_model_is_not_found(self, openai: AsyncOpenAI) -> None:
        with pytest.raises(openai_package.NotFoundError) as caught:
            await openai.chat.completions.create(model="gpt-5", messages=QUESTION)
        assert caught.value.code == "model_not_found"
        assert caught.value.param == "model"
        assert caught.value.type == "invalid_request_error"
        with pytest.raises(openai_package.NotFoundError):
            await openai.models.retrieve("gpt-5")

    async def test_a_wrong_key_is_no_way_in(self, gateway: Gateway) -> None:
        async with AsyncOpenAI(
            base_url=f"{gateway.url}/v1", api_key="pp_wrong", max_retries=0
        ) as client:
            with pytest.raises(openai_package.AuthenticationError) as caught:
                await client.chat.completions.create(model="polyplane", messages=QUESTION)
        assert caught.value.code == "invalid_api_key"
        assert caught.value.response.headers["www-authenticate"] == "Bearer"

    async def test_a_key_needs_the_scope(self, gateway: Gateway, person: Person) -> None:
        key = await api_key(person, "documents:read")
        async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
            assert (await client.models.list()).data
            with pytest.raises(openai_package.PermissionDeniedError) as caught:
                await client.chat.completions.create(model="polyplane", messages=QUESTION)
        assert caught.value.type == "permission_error"

    @pytest.mark.parametrize(
        ("wrong", "param"),
        [
            ({"n": 2}, "n"),
            ({"stop": ["."]}, "stop"),
            ({"logit_bias": {"50256": -100}}, "logit_bias"),
            ({"response_format": {"type": "json_object"}}, "response_format.type"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"messages": []}, "messages"),
            ({"messages": [{"role": "assistant", "content": "Yes."}]}, "messages"),
            ({"messages": [*QUESTION, {"role": "user", "content": ""}]}, "messages"),
            ({"messages": [*QUESTION, {"role": "assistant", "content": ""}]}, "messages"),
            (
                {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
                "messages[0].content",
            ),
            ({"extra_body": {"no_such_field": 1}}, "no_such_field"),
        ],
    )
    async def test_a_field_that_cannot_be_served_is_named(
        self, openai: AsyncOpenAI, person: Person, wrong: dict[str, Any], param: str
    ) -> None:
        with pytest.raises(openai_package.BadRequestError) as caught:
            await openai.chat.completions.create(
                **{"model": "test-model", "messages": QUESTION, **wrong}
            )
        assert caught.value.param == param
        assert (await usage_of(person))["quotas"]["tokens"]["used"] == 0

    async def test_tools_need_a_language_model(
        self, openai: AsyncOpenAI, person: Person, plane: FakePlane
    ) -> None:
        plane.kind, plane.model = "extractive", "quotes"

        async def is_known() -> bool:
            return "quotes" in [model.id async for model in openai.models.list()]

        await until(is_known)
        tool: Any = {"type": "function", "function": {"name": "f"}}
        with pytest.raises(openai_package.BadRequestError) as caught:
            await openai.chat.completions.create(model="polyplane", messages=QUESTION, tools=[tool])
        assert (caught.value.param, caught.value.code) == ("tools", "tools_unsupported")
        assert "`openai` and `qwen`" in caught.value.message
        assert (await usage_of(person))["quotas"]["tokens"]["used"] == 0
        await openai.chat.completions.create(
            model="polyplane", messages=QUESTION, tools=[tool], tool_choice="none"
        )

    async def test_a_used_up_quota_is_402(
        self, openai: AsyncOpenAI, database_urls: dict[str, str]
    ) -> None:
        owner = await asyncpg.connect(database_urls["admin"])
        await owner.execute("UPDATE plans SET messages_per_month = 0")
        await owner.close()
        with pytest.raises(openai_package.APIStatusError) as caught:
            await openai.chat.completions.create(model="test-model", messages=QUESTION)
        assert caught.value.status_code == 402
        assert caught.value.type == caught.value.code == "insufficient_quota"

    async def test_a_limit_says_when_to_come_again(
        self, openai: AsyncOpenAI, database_urls: dict[str, str], person: Person
    ) -> None:
        owner = await asyncpg.connect(database_urls["admin"])
        await owner.execute("UPDATE plans SET chat_requests_per_minute = 1")
        await owner.close()
        key = await api_key(person, "chat")  # one whose limits Redis has not seen yet
        client = openai.with_options(api_key=key)
        await client.chat.completions.create(model="test-model", messages=QUESTION)
        with pytest.raises(openai_package.RateLimitError) as caught:
            await client.chat.completions.create(model="test-model", messages=QUESTION)
        assert caught.value.code == "rate_limit_exceeded"
        assert int(caught.value.response.headers["retry-after"]) >= 1
        assert '"chat";r=0' in caught.value.response.headers["ratelimit"]

    async def test_a_plane_that_fails_is_503_and_costs_nothing(
        self, openai: AsyncOpenAI, person: Person, plane: FakePlane
    ) -> None:
        plane.words, plane.ends_with = [], "error"
        with pytest.raises(openai_package.InternalServerError) as caught:
            await openai.chat.completions.create(model="test-model", messages=QUESTION)
        assert caught.value.status_code == 503
        assert caught.value.response.headers["retry-after"]
        assert "No model." in caught.value.message
        assert (await usage_of(person))["totals"]["messages"] == 0

    async def test_a_stream_that_fails_raises_in_the_client(
        self, openai: AsyncOpenAI, person: Person, plane: FakePlane
    ) -> None:
        plane.ends_with = "error"
        stream = await openai.chat.completions.create(
            model="test-model", messages=QUESTION, stream=True
        )
        with pytest.raises(openai_package.APIError, match="No model"):
            async for _ in stream:
                pass
        assert (await usage_of(person))["totals"]["total_tokens"] == 43

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/v1", 404),
            ("GET", "/v1/nowhere", 404),
            ("GET", "/v1/chat/completions", 405),
        ],
    )
    async def test_every_error_below_the_prefix_has_openais_shape(
        self, person: Person, method: str, path: str, status: int
    ) -> None:
        answer = await person.http.request(method, path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/json"
        assert answer.json().keys() == {"error"}

    async def test_a_body_that_is_no_json_or_too_large_has_it_too(self, person: Person) -> None:
        for content, status in ((b"{", 400), (b'"' + b"a" * 2_000_000, 413)):
            answer = await person.http.post(
                "/v1/chat/completions",
                content=content,
                headers={"content-type": "application/json"},
            )
            assert answer.status_code == status
            assert answer.json()["error"]["message"]


async def test_the_prefix_of_the_other_paths_is_not_for_these(person: Person) -> None:
    answer: httpx.Response = await person.http.get("/api/v1/v1/models")
    assert answer.status_code == 404
