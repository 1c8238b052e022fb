import json

import pytest

from planes.serving.generation.tool_calls import StreamedCalls, WrittenCalls
from planes.shared.ports import ToolCall

CALL = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "1 + 1"}}\n</tool_call>'


def shown(*pieces: str) -> tuple[str, tuple[ToolCall, ...]]:
    written = WrittenCalls()
    text = "".join(map(written.feed, pieces)) + written.finish()
    return text, written.calls


@pytest.mark.parametrize("pieces", [[f"One moment. {CALL}"], [*f"One moment. {CALL}"]])
def test_calls_in_qwens_notation_are_taken_out_of_the_text(pieces: list[str]) -> None:
    text, (call,) = shown(*pieces)
    assert text.strip() == "One moment."
    assert (call.name, json.loads(call.arguments)) == ("calculator", {"expression": "1 + 1"})


def test_several_calls_have_ids_of_their_own() -> None:
    _, calls = shown(CALL, "\n", CALL)
    assert [call.id for call in calls] == ["call_1", "call_2"]


def test_plain_text_passes_through() -> None:
    assert shown(*"a < b and <tool> too <tool_cal") == ("a < b and <tool> too <tool_cal", ())


@pytest.mark.parametrize("broken", [CALL[:-6], "<tool_call>"])
def test_a_call_that_was_broken_off_is_neither_made_nor_shown(broken: str) -> None:
    assert shown("So: ", broken) == ("So: ", ())


def test_a_call_that_cannot_be_read_is_told_to_the_model_as_such() -> None:
    _, (call,) = shown("<tool_call>nonsense</tool_call>")
    assert call.name == "unreadable"


def test_deltas_of_openais_api_are_put_together_by_index() -> None:
    calls = StreamedCalls()
    calls.read([{"index": 0, "id": "a", "function": {"name": "calculator", "arguments": '{"ex'}}])
    calls.read([{"index": 1, "id": "b", "function": {"name": "current_time", "arguments": ""}}])
    calls.read([{"index": 0, "function": {"arguments": 'pression": "1"}'}}])
    assert calls.calls == (
        ToolCall("a", "calculator", '{"expression": "1"}'),
        ToolCall("b", "current_time", ""),
    )
