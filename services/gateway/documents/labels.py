"""What a client attaches to documents: tags, and metadata of its own."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from planes.shared.errors import InvalidInput
from services.gateway.schemas import Tag

MAX_TAGS = 32
MAX_METADATA_BYTES = 16 * 1024
_TAGS: TypeAdapter[list[str]] = TypeAdapter(list[Tag])


@dataclass(frozen=True, slots=True)
class Labels:
    """What a client attaches to a document."""

    tags: list[str]
    metadata: dict[str, Any]


def tags_of(values: list[str]) -> list[str]:
    """Return the tags of a form, sorted, each once; empty ones are left out.

    Raises:
        InvalidInput: One is too long.
    """
    try:
        return sorted(set(_TAGS.validate_python([value for value in values if value])))
    except ValidationError as error:
        raise InvalidInput("Each tag is a text of 1 to 64 characters.") from error


def metadata_of(value: str) -> dict[str, Any]:
    """Return the metadata of a form; an empty field holds none.

    Raises:
        InvalidInput: It is no JSON object, or one that cannot be stored.
    """
    if not value:
        return {}
    if len(value.encode()) > MAX_METADATA_BYTES:
        raise InvalidInput("`metadata` is a JSON object of at most 16 KiB.")
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise InvalidInput("`metadata` is not JSON.") from error
    if not isinstance(parsed, dict) or "\\u0000" in value:
        raise InvalidInput("`metadata` is a JSON object without NUL characters.")
    try:
        orjson.dumps(parsed)
    except orjson.JSONEncodeError as error:
        raise InvalidInput("`metadata` is nested too deeply.") from error
    return parsed


def storable_object(value: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object with numbers as the database keeps them.

    Raises:
        ValueError: It cannot be stored.
    """
    try:
        encoded = json.dumps(value, ensure_ascii=False, allow_nan=False)
        stored: dict[str, Any] = orjson.loads(encoded)
        orjson.dumps(stored)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError("the object is nested too deeply, or not valid Unicode") from error
    if "\\u0000" in encoded:
        raise ValueError("the NUL character is not allowed")
    return stored


def _small_object(value: dict[str, Any]) -> dict[str, Any]:
    stored = storable_object(value)
    if len(orjson.dumps(stored)) > MAX_METADATA_BYTES:
        raise ValueError("metadata holds at most 16 KiB of JSON")
    return stored


Metadata = Annotated[
    dict[str, Any], AfterValidator(_small_object), Field(examples=[{"department": "legal"}])
]
Tags = Annotated[
    list[Tag],
    AfterValidator(lambda tags: sorted(set(tags))),
    Field(max_length=MAX_TAGS, examples=[["contracts"]]),
]
