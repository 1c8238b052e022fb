"""Which keys are taken, and which requests are the same."""

import pytest

from planes.shared.errors import BadRequest
from services.gateway.idempotency.keys import fingerprint, parse_key


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ('"8e03978e-40d5"', "8e03978e-40d5"),
        (r'"a \"quoted\" \\ key"', r'a "quoted" \ key'),
        ("a key with blanks", "a key with blanks"),
        ("x" * 255, "x" * 255),
        (f'"{"x" * 255}"', "x" * 255),
    ],
)
def test_a_key_is_the_same_with_quotes_and_without(value: str, key: str) -> None:
    assert parse_key([value]) == key


def test_no_header_is_no_key() -> None:
    assert parse_key([]) is None


@pytest.mark.parametrize(
    "values",
    [
        [""],
        ["   "],
        ['""'],
        ['"half'],
        ['"a"b"'],
        [r'"a\b"'],
        ["tab\there"],
        ["umläut"],
        ["x" * 256],
        ['"a";param=1'],
        ["one", "two"],
    ],
)
def test_anything_else_is_refused(values: list[str]) -> None:
    with pytest.raises(BadRequest):
        parse_key(values)


def test_json_is_the_same_however_it_was_written() -> None:
    first = fingerprint("POST /chat", {"message": "hi", "document_ids": None})
    assert first == fingerprint("POST /chat", {"document_ids": None, "message": "hi"})
    assert first != fingerprint("POST /chat", {"message": "hi"})
    assert first != fingerprint("POST /conversations", {"message": "hi", "document_ids": None})
    assert first != fingerprint("POST /chat", {"message": "Hi", "document_ids": None})
