from planes.serving.generation.tool_calls import UNREADABLE, tool_calls


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
