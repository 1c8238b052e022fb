from planes.serving.generation.tool_calls import tool_calls


def test_calls_are_read_one_after_another() -> None:
    written = (
        '\n{"name": "calculator", "arguments": {"expression": "2 + 2"}}\n\n{"name": "clock"}\n'
    )
    first, second = tool_calls(written)
    assert (first.name, first.arguments) == ("calculator", '{"expression": "2 + 2"}')
    assert (second.name, second.arguments) == ("clock", "{}")
    assert first.id != second.id


def test_what_is_no_call_is_left_out() -> None:
    assert tool_calls("") == ()
    assert tool_calls("calculator(2 + 2)") == ()
    assert tool_calls('{"arguments": {}}') == ()
    assert tool_calls("[1]") == ()
    assert [call.name for call in tool_calls('{"name": "clock"}{"name": "cl')] == ["clock"]
