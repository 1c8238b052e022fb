import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from planes.serving.generation.fitting import PromptRead
from planes.serving.generation.openai import Deadlines, OpenAIGenerator
from planes.serving.generation.providers import FallbackChain, Provider
from planes.serving.generation.tokens import TokenCounter
from planes.shared.domain import ChatMode, FinishReason
from planes.shared.embedding import load_tokenizer
from planes.shared.errors import InvalidInput, Unavailable
from planes.shared.ports import Generated, Prompt, Tool, ToolCall, ToolExchange
from tests.fakes_serving import ModelServer, Reply, completion_chunk, passage, usage_chunk

PROMPT = Prompt("When?", "When?", ChatMode.RAG, [passage("It opened in 1901.")], (), 1000, 50)
NOWHERE = "http://127.0.0.1:9/v1/"
TOKENS = TokenCounter(load_tokenizer())
WHOLE = Reply(
    [
        completion_chunk("It opened "),
        completion_chunk("in 1901 [1]."),
        completion_chunk(finish_reason="stop"),
        usage_chunk(123, 9),
        "[DONE]",
    ]
)


@asynccontextmanager
async def generator_of(
    *servers: ModelServer, deadlines: Deadlines | None = None
) -> AsyncIterator[OpenAIGenerator]:
    async with AsyncExitStack() as running:
        providers = []
        for server in servers:
            address = await running.enter_async_context(server.running())
            client = await running.enter_async_context(httpx.AsyncClient(base_url=address))
            providers.append(Provider(client, f"llama-{len(providers) + 1}"))
        yield OpenAIGenerator(FallbackChain(providers), TOKENS, deadlines=deadlines)


async def ask(
    *servers: ModelServer, deadlines: Deadlines | None = None, prompt: Prompt = PROMPT
) -> list[Generated]:
    async with generator_of(*servers, deadlines=deadlines) as generator:
        return [piece async for piece in generator.generate(prompt)]


def text(pieces: list[Generated]) -> str:
    return "".join(piece.text for piece in pieces)


async def test_an_answer_is_streamed_with_the_servers_own_token_counts() -> None:
    server = ModelServer([WHOLE])
    pieces = await ask(server)
    assert text(pieces) == "It opened in 1901 [1]."
    assert (pieces[-1].prompt_tokens, pieces[-1].completion_tokens) == (123, 9)
    assert pieces[-1].finish_reason is FinishReason.STOP
    (body,) = server.bodies
    assert body["stream_options"] == {"include_usage": True}
    assert body["max_tokens"] == 50
    assert "It opened in 1901." in body["messages"][-1]["content"]


async def test_it_tells_before_its_text_how_many_passages_the_model_was_shown() -> None:
    long = passage("word " * 400)
    prompt = replace(PROMPT, passages=[*PROMPT.passages, long], max_prompt_tokens=300)
    server = ModelServer([WHOLE])
    first, *_ = await ask(server, prompt=prompt)
    assert isinstance(first, PromptRead)
    assert (first.text, first.passages) == ("", 1)


async def test_tokens_are_estimated_where_the_server_does_not_count() -> None:
    pieces = await ask(ModelServer([Reply(WHOLE.events[:3])]))
    assert pieces[-1].completion_tokens == TOKENS.count("It opened in 1901 [1].")
    assert 0 < pieces[-1].prompt_tokens <= 1000


async def test_counts_above_the_limits_are_not_charged() -> None:
    events = [completion_chunk("Hi", finish_reason="length"), usage_chunk(5000, 80)]
    last = (await ask(ModelServer([Reply(events)])))[-1]
    assert (last.prompt_tokens, last.completion_tokens) == (1000, 50)
    assert last.finish_reason is FinishReason.LENGTH


async def test_reasoning_is_never_shown() -> None:
    events = [completion_chunk("<thi"), completion_chunk("nk>1901?</think>In "), *WHOLE.events[1:]]
    assert text(await ask(ModelServer([Reply(events)]))) == "In in 1901 [1]."


@pytest.mark.parametrize("bad", [Reply(status=503), Reply(status=429), Reply(breaks_off=True)])
async def test_a_failure_before_the_first_token_is_tried_again(bad: Reply) -> None:
    server = ModelServer([bad, bad, WHOLE])
    assert text(await ask(server)) == "It opened in 1901 [1]."
    assert len(server.bodies) == 3


async def test_three_attempts_are_all() -> None:
    server = ModelServer([Reply(status=500)] * 4)
    with pytest.raises(Unavailable, match="does not answer"):
        await ask(server)
    assert len(server.bodies) == 3


async def test_a_refusal_is_not_repeated() -> None:
    server = ModelServer([Reply(status=401)] * 2)
    with pytest.raises(Unavailable, match="HTTP 401"):
        await ask(server)
    assert len(server.bodies) == 1


async def test_an_answer_that_breaks_off_is_not_begun_again() -> None:
    server = ModelServer([Reply(WHOLE.events[:1], breaks_off=True), WHOLE])
    with pytest.raises(Unavailable):
        await ask(server)
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "deadlines",
    [Deadlines(first_token_s=0.2), Deadlines(first_token_s=9, between_tokens_s=0.2)],
    ids=["first token", "next token"],
)
async def test_a_silent_server_is_given_up(deadlines: Deadlines) -> None:
    first = deadlines.first_token_s > 1
    server = ModelServer([Reply(WHOLE.events, pause_s=0.4 if first else 5)] * 3)
    with pytest.raises(Unavailable):
        async with asyncio.timeout(4):
            await ask(server, deadlines=deadlines)


async def test_an_unreachable_server_is_unavailable() -> None:
    async with httpx.AsyncClient(base_url=NOWHERE) as client:
        generator = OpenAIGenerator(FallbackChain([Provider(client, "llama")]), TOKENS)
        with pytest.raises(Unavailable):
            _ = [piece async for piece in generator.generate(PROMPT)]


async def test_closing_the_answer_hangs_up_on_the_server() -> None:
    server = ModelServer([Reply([completion_chunk("word ")] * 200, pause_s=0.02)])
    async with generator_of(server) as generator:
        answer = generator.generate(PROMPT)
        await anext(answer)
        await answer.aclose()
        async with asyncio.timeout(2):
            await server.hung_up.wait()


@pytest.mark.parametrize(
    "bad", [Reply(status=503), Reply(status=401), Reply(breaks_off=True)], ids=str
)
async def test_the_next_provider_answers_where_the_first_does_not(bad: Reply) -> None:
    first, second = ModelServer([bad]), ModelServer([WHOLE])
    assert text(await ask(first, second)) == "It opened in 1901 [1]."
    assert [len(first.bodies), len(second.bodies)] == [1, 1]
    assert second.bodies[0]["model"] == "llama-2"


async def test_a_silent_provider_leaves_time_for_the_next() -> None:
    first, second = ModelServer([Reply(WHOLE.events, pause_s=30)]), ModelServer([WHOLE])
    pieces = await ask(first, second, deadlines=Deadlines(first_token_s=3))
    assert text(pieces) == "It opened in 1901 [1]."


async def test_no_other_provider_goes_on_with_an_answer_that_has_begun() -> None:
    second = ModelServer([WHOLE])
    with pytest.raises(Unavailable):
        await ask(ModelServer([Reply(WHOLE.events[:1], breaks_off=True)]), second)
    assert second.bodies == []


async def test_a_provider_that_failed_is_not_asked_first_for_a_while() -> None:
    first, second = ModelServer([Reply(status=503), WHOLE]), ModelServer([WHOLE, WHOLE])
    async with generator_of(first, second) as generator:
        for _ in range(2):
            assert [piece async for piece in generator.generate(PROMPT)][-1].finish_reason
    assert [len(first.bodies), len(second.bodies)] == [1, 2]


async def test_a_question_that_is_refused_says_nothing_of_the_provider() -> None:
    first, second = ModelServer([Reply(status=400), WHOLE]), ModelServer([WHOLE])
    async with generator_of(first, second) as generator:
        for _ in range(2):
            assert [piece async for piece in generator.generate(PROMPT)][-1].finish_reason
    assert [len(first.bodies), len(second.bodies)] == [2, 1]


async def test_a_refusal_by_all_providers_names_the_settings() -> None:
    with pytest.raises(Unavailable, match="SERVING_OPENAI_FALLBACKS"):
        await ask(ModelServer([Reply(status=401)]), ModelServer([Reply(status=404)]))


REASONED = Reply([completion_chunk("<think>1901, I think</think>In 1901."), *WHOLE.events[2:]])


def reasoning_usage(completion_tokens: int, reasoning_tokens: int) -> str:
    usage = json.loads(usage_chunk(100, completion_tokens))
    usage["usage"]["completion_tokens_details"] = {"reasoning_tokens": reasoning_tokens}
    return json.dumps(usage)


async def test_reasoning_that_was_not_asked_for_is_not_billed() -> None:
    counted = Reply([*REASONED.events[:2], reasoning_usage(30, 21), "[DONE]"])
    last = (await ask(ModelServer([counted])))[-1]
    assert last.completion_tokens == 9
    for events in (REASONED.events, REASONED.events[:2]):  # counted as a whole, and not at all
        pieces = await ask(ModelServer([Reply(events)]))
        assert 0 < pieces[-1].completion_tokens < 9
        assert not any(piece.thinking for piece in pieces)


async def test_reasoning_that_was_asked_for_is_told_apart_and_billed() -> None:
    pieces = await ask(ModelServer([REASONED]), prompt=replace(PROMPT, thinking=True))
    assert (text(pieces), pieces[-1].completion_tokens) == ("In 1901.", 9)
    assert "".join(piece.thinking for piece in pieces) == "1901, I think"


def tool_call_chunk(place: int, **function: str) -> str:
    call = {"index": place, "function": function}
    if "name" in function:
        call["id"] = f"id-{place}"
    return json.dumps({"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": None}]})


CLOCK = Tool("current_time", "Tells the time.", {"type": "object", "properties": {}})


async def test_calls_of_tools_come_with_the_last_piece() -> None:
    events = [
        tool_call_chunk(0, name="current_time", arguments=""),
        tool_call_chunk(0, arguments='{"zone": '),
        tool_call_chunk(0, arguments='"UTC"}'),
        tool_call_chunk(1, name="current_time", arguments="{}"),
        completion_chunk(finish_reason="tool_calls"),
    ]
    server = ModelServer([Reply(events)])
    pieces = await ask(server, prompt=replace(PROMPT, tools=[CLOCK]))
    assert server.bodies[0]["tools"] == [CLOCK.definition]
    assert pieces[-1].tool_calls == (
        ToolCall("id-0", "current_time", '{"zone": "UTC"}'),
        ToolCall("id-1", "current_time", "{}"),
    )
    assert pieces[-1].completion_tokens > 0
    told = [part for piece in pieces for part in piece.call_pieces]
    assert [(part.index, part.id, part.arguments) for part in told] == [
        (0, "id-0", ""),
        (0, None, '{"zone": '),
        (0, None, '"UTC"}'),
        (1, "id-1", "{}"),
    ]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({}, {}),
        ({"must_call": True}, {"tool_choice": "required"}),
        (
            {"must_call": True, "must_call_named": "current_time", "in_parallel": False},
            {
                "tool_choice": {"type": "function", "function": {"name": "current_time"}},
                "parallel_tool_calls": False,
            },
        ),
    ],
)
async def test_the_server_is_told_how_freely_the_model_chooses(
    wanted: dict[str, Any], said: dict[str, Any]
) -> None:
    server = ModelServer([WHOLE])
    await ask(server, prompt=replace(PROMPT, tools=[CLOCK], **wanted))
    body = server.bodies[0]
    assert {name: body[name] for name in body if name.endswith(("choice", "calls"))} == said


async def test_definitions_and_results_of_tools_count_as_prompt() -> None:
    asked = ToolExchange("", (ToolCall("id-0", "current_time", "{}"),), ("noon " * 50,))
    uncounted = Reply(WHOLE.events[:3])
    plain, with_tools, with_results = [
        (await ask(ModelServer([uncounted]), prompt=replace(PROMPT, **more)))[-1].prompt_tokens
        for more in ({}, {"tools": [CLOCK]}, {"tools": [CLOCK], "exchanges": [asked]})
    ]
    assert plain < with_tools < with_results - 50


async def test_half_a_surrogate_pair_waits_for_the_other_half() -> None:
    halves = [
        '{"choices": [{"delta": {"content": "Well \\ud83d"}}]}',
        '{"choices": [{"delta": {"reasoning": "Hm \\ud83d"}}]}',
        '{"choices": [{"delta": {"content": "\\ude00 done"}}]}',
        completion_chunk(finish_reason="stop"),
    ]
    pieces = await ask(ModelServer([Reply(halves)]))
    assert text(pieces) == "Well \U0001f600 done"


async def test_what_a_server_refuses_for_good_is_told_so() -> None:
    with pytest.raises(InvalidInput, match="refused this question"):
        await ask(ModelServer([Reply(status=400)]))
    cut = [completion_chunk("Half a"), completion_chunk(finish_reason="content_filter")]
    with pytest.raises(Unavailable, match="by its rules") as cut_off:
        await ask(ModelServer([Reply(cut)]))
    assert cut_off.value.retry_after_s is None
