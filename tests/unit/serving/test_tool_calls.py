from dataclasses import replace

import pytest

from planes.serving.generation.tags import TagFilter
from planes.serving.generation.tool_calls import UNREADABLE, forced_beginning, tool_calls
from planes.shared.domain import ChatMode
from planes.shared.ports import Prompt


def test_calls_are_read_one_after_another() -> None:
    written = (
        '\n{"name": "calculator", "arguments": {"expression": "2 + 2"}}\n\n{"name": "clock"}\n'
    )
    first, second = tool_calls(written)
    assert (first.name, first.arguments) == ("calculator", '{"expression": "2 + 2"}')
    assert (second.name, second.arguments) == ("clock", "{}")
    assert first.id != second.id


def test_what_cannot_be_read_is_a_call_of_no_tool() -> None:
    assert tool_calls("") == ()
    for written in ("calculator(2 + 2)", '{"arguments": {}}', "[1]"):
        assert [call.name for call in tool_calls(written)] == [UNREADABLE]
    names = [call.name for call in tool_calls('{"name": "clock"}{"name": "cl')]
    assert names == ["clock", UNREADABLE]


@pytest.mark.parametrize(
    ("named", "written"),
    [(None, 'clock", "arguments": {}}\n</tool_call>'), ("clock", "{}}\n</tool_call>")],
)
def test_what_has_to_be_a_call_begins_as_one(named: str | None, written: str) -> None:
    prompt = Prompt("When?", "When?", ChatMode.OPEN, (), (), 9, 9)
    assert forced_beginning(prompt) == ""
    forced = replace(prompt, must_call=True, must_call_named=named)
    parted = TagFilter("tool_call").feed(forced_beginning(forced) + written)
    assert parted.text == ""
    assert [call.name for call in tool_calls(parted.inside)] == ["clock"]
