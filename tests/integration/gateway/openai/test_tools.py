"""A client's own tools: gateway, serving plane and the protocol of a model's server, all real."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import openai as openai_package
import pytest
from openai import AsyncOpenAI

from planes.serving.http import create_app
from planes.serving.plane import build_plane
from planes.serving.settings import ServingSettings
from planes.shared.embedding import MiniLMEmbedder
from tests.fakes_serving import (
    Library,
    ModelServer,
    Reply,
    completion_chunk,
    embedding_in_process,
    usage_chunk,
)
from tests.integration.gateway.conftest import Person, served
from tests.integration.gateway.plane import TOKEN_SECRET
from tests.integration.gateway.test_chat import messages_of, usage_of

pytestmark = pytest.mark.integration
QUESTION: Any = [{"role": "user", "content": "When did the harbour of Leith open?"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
WEATHER: Any = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather.", "parameters": SCHEMA},
}
CLOCK: Any = {"type": "function", "function": {"name": "get_time"}}
FACT = "The harbour of Leith opened in 1901."


def call_chunk(place: int, **function: str) -> str:
    call: dict[str, Any] = {"index": place, "function": function}
    if "name" in function:
        call |= {"id": f"call-{place}", "type": "function"}
    return json.dumps({"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": None}]})


CALLS = Reply(
    [
        completion_chunk("Let me look."),
        call_chunk(0, name="get_weather", arguments=""),
        call_chunk(0, arguments='{"city": '),
        call_chunk(0, arguments='"Leith"}'),
        call_chunk(1, name="get_time", arguments="{}"),
        completion_chunk(finish_reason="tool_calls"),
        usage_chunk(200, 30),
        "[DONE]",
    ]
)
ANSWER = Reply(
    [
        completion_chunk("It is sunny. The harbour of Leith opened in 1901 [1]."),
        completion_chunk(finish_reason="stop"),
        usage_chunk(300, 12),
        "[DONE]",
    ]
)


@pytest.fixture
def model() -> ModelServer:
    """The model's server: it calls two tools, then it answers."""
    return ModelServer([CALLS, ANSWER])


@pytest.fixture
async def overrides(
    model: ModelServer, database_urls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[dict[str, object]]:
    """A gateway in front of a real plane, in front of that server."""
    monkeypatch.setenv("DATABASE_URL", database_urls["serving"])
    monkeypatch.setenv("SERVING_TOKEN_SECRET", TOKEN_SECRET)
    async with model.running() as address:
        settings = ServingSettings(openai_base_url=address, openai_model="test-model")
        plane = build_plane(settings, lambda _: embedding_in_process(MiniLMEmbedder()))
        async with served(create_app(plane)) as url:
            yield {"serving_url": url}


@pytest.fixture
async def library(person: Person, database_urls: dict[str, str]) -> Library:
    """The tenant's documents: one, which tells a fact."""
    owner = await asyncpg.connect(database_urls["admin"])
    await owner.execute(
        "INSERT INTO users (id, email, email_key, password_hash, display_name) "
        "VALUES ($1, 'x@example.org', 'x@example.org', 'x', 'x')",
        UUID(person.tenant_id),
    )
    await owner.close()
    library = Library(database_urls, MiniLMEmbedder())
    await library.add_document(UUID(person.tenant_id), "harbour.md", [FACT])
    return library


@pytest.mark.usefixtures("library")
async def test_calls_go_to_the_client_and_their_results_back_to_the_model(
    openai: AsyncOpenAI, model: ModelServer, person: Person
) -> None:
    first = await openai.chat.completions.create(
        model="polyplane", messages=QUESTION, tools=[WEATHER, CLOCK], tool_choice="required"
    )
    [choice] = first.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me look."
    weather, clock = choice.message.tool_calls or []
    assert (weather.id, weather.type) == ("call-0", "function")
    assert weather.function.name == "get_weather"
    assert json.loads(weather.function.arguments) == {"city": "Leith"}
    assert clock.function.name == "get_time"
    asked = model.bodies[0]
    assert [tool["function"]["name"] for tool in asked["tools"]] == ["get_weather", "get_time"]
    assert asked["tools"][0]["function"]["parameters"] == SCHEMA
    assert asked["tool_choice"] == "required"
    assert FACT in asked["messages"][-1]["content"]

    messages = [
        *QUESTION,
        choice.message,
        {"role": "tool", "tool_call_id": clock.id, "content": "noon"},
        {"role": "tool", "tool_call_id": weather.id, "content": "sunny"},
    ]
    second = await openai.chat.completions.create(
        model="polyplane", messages=messages, tools=[WEATHER, CLOCK]
    )
    [choice] = second.choices
    assert choice.finish_reason == "stop"
    assert choice.message.tool_calls is None
    [citation] = (choice.message.model_extra or {})["citations"]
    assert citation["quote"] == FACT
    told = model.bodies[1]["messages"]
    assert [message["role"] for message in told[-4:]] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in told[-3]["tool_calls"]] == ["call-0", "call-1"]
    assert "sunny" in told[-2]["content"]
    assert "noon" in told[-1]["content"]
    assert "tool_choice" not in model.bodies[1]
    usage = await usage_of(person)
    assert usage["totals"]["messages"] == 2
    assert usage["totals"]["total_tokens"] == usage["quotas"]["tokens"]["used"] == 230 + 312


async def test_a_stream_tells_calls_piece_by_piece(openai: AsyncOpenAI, model: ModelServer) -> None:
    named: Any = {"type": "function", "function": {"name": "get_weather"}}
    stream = await openai.chat.completions.create(
        model="polyplane",
        messages=QUESTION,
        tools=[WEATHER, CLOCK],
        tool_choice=named,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"mode": "open"},
    )
    *chunks, last, usage = [chunk async for chunk in stream]
    pieces = [p for chunk in chunks for p in chunk.choices[0].delta.tool_calls or ()]
    assert [(p.index, p.id, p.function and p.function.name) for p in pieces] == [
        (0, "call-0", "get_weather"),
        (0, None, None),
        (0, None, None),
        (1, "call-1", "get_time"),
    ]
    assert [p.function and p.function.arguments for p in pieces] == [
        "",
        '{"city": ',
        '"Leith"}',
        "{}",
    ]
    assert last.choices[0].finish_reason == "tool_calls"
    assert usage.usage is not None
    assert usage.usage.total_tokens == 230
    assert model.bodies[0]["tool_choice"] == named


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_repeated_key_tells_the_calls_again_and_they_are_stored(
    openai: AsyncOpenAI, model: ModelServer, person: Person, is_stream: bool
) -> None:
    told = []
    for _ in range(2):
        answer = await openai.chat.completions.with_raw_response.create(
            model="polyplane",
            messages=QUESTION,
            tools=[WEATHER],
            parallel_tool_calls=False,
            stream=is_stream,
            extra_headers={"idempotency-key": "one question"},
            extra_body={"mode": "open"},
        )
        parsed: Any = answer.parse()
        if is_stream:
            chunks = [chunk async for chunk in parsed]
            pieces = [p for chunk in chunks for p in chunk.choices[0].delta.tool_calls or ()]
            told.append(
                (
                    pieces[0].id,
                    "".join(piece.function.arguments for piece in pieces),
                    chunks[-1].choices[0].finish_reason,
                )
            )
        else:
            [call] = parsed.choices[0].message.tool_calls
            told.append((call.id, call.function.arguments, parsed.choices[0].finish_reason))
    assert told == [("call-0", '{"city": "Leith"}', "tool_calls")] * 2
    assert len(model.bodies) == 1
    assert model.bodies[0]["parallel_tool_calls"] is False
    [kept] = (await person.http.get("/conversations", params={"listed": False})).json()["items"]
    question, stored = await messages_of(person, kept["id"])
    assert question["content"] == QUESTION[0]["content"]
    assert stored["content"] == "Let me look."
    assert stored["finish_reason"] == "tool_calls"
    call = {"id": "call-0", "name": "get_weather", "arguments": '{"city": "Leith"}'}
    assert stored["tool_calls"] == [call]
    assert (await usage_of(person))["totals"]["total_tokens"] == 230


async def test_earlier_rounds_stand_in_the_history(openai: AsyncOpenAI, model: ModelServer) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "get_time", "arguments": "{}"}}
    messages: Any = [
        {"role": "user", "content": "What time is it?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "noon"},
        {"role": "assistant", "content": "Noon."},
        *QUESTION,
    ]
    await openai.chat.completions.create(
        model="polyplane", messages=messages, tools=[CLOCK], tool_choice="none"
    )
    told = model.bodies[0]["messages"]
    roles = ["system", "user", "assistant", "tool", "assistant", "user"]
    assert [message["role"] for message in told] == roles
    assert "tool_choice" not in model.bodies[0]
    assert "get_time" not in json.dumps(model.bodies[0].get("tools", []))


DEEP: Any = {"type": "object"}
for _ in range(17):
    DEEP = {"type": "object", "properties": DEEP}


def _function(**what: Any) -> list[Any]:
    return [{"type": "function", "function": {"name": "f", **what}}]


def _round(*results: dict[str, str], calls: int = 1) -> list[Any]:
    made = [
        {"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        for n in range(calls)
    ]
    return [*QUESTION, {"role": "assistant", "tool_calls": made}, *results]


RESULT = {"role": "tool", "tool_call_id": "c0", "content": "1"}


OUT_OF_BOUNDS: list[tuple[dict[str, Any], str | None]] = [
    ({"tools": _function() * 129}, "tools"),
    ({"tools": _function() * 2}, "tools"),
    ({"tools": _function(parameters=DEEP)}, "tools[0].function.parameters"),
    ({"tools": _function(parameters={"type": "array"})}, "tools[0].function.parameters"),
    ({"tools": _function(parameters={"type": "object", "x": "y" * 70_000})}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "no name"}}]}, None),
    ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, None),
    ({"tool_choice": "required"}, None),
    ({"tools": _function(), "tool_choice": {**CLOCK}}, None),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"messages": _round()}, "messages"),
    ({"messages": _round(RESULT, calls=2)}, "messages"),
    ({"messages": _round(RESULT, RESULT)}, "messages"),
    ({"messages": [*QUESTION, RESULT]}, "messages"),
    ({"messages": [*_round(), *QUESTION]}, "messages"),
]


async def test_what_is_out_of_bounds_is_refused_before_any_work(
    openai: AsyncOpenAI, model: ModelServer
) -> None:
    for wrong, param in OUT_OF_BOUNDS:
        with pytest.raises(openai_package.BadRequestError) as caught:
            await openai.chat.completions.create(
                **{"model": "polyplane", "messages": QUESTION, **wrong}
            )
        assert param in {None, caught.value.param}, wrong
    assert model.bodies == []
