"""Bodies are taken as JSON has them: no value is converted to another type."""

from typing import Any, cast

from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_STRICT = frozenset({"bool", "str"})
_NUMBERS = frozenset({"int", "float"})
_TEXTS = frozenset({"date", "datetime", "decimal", "time", "timedelta", "url", "uuid"})
_NOT_SCHEMAS = frozenset({"default", "metadata", "serialization"})


def as_json_has_it(schema: CoreSchema) -> CoreSchema:
    """Return a core schema of pydantic whose values keep the types that JSON gives them.

    pydantic's own strict mode would refuse ids and times as well, which JSON can only write as
    texts: FastAPI validates what `json.loads` returns, not the JSON.
    """
    return cast(CoreSchema, _strict(schema))


def _strict(node: Any) -> Any:
    if isinstance(node, list | tuple):
        return type(node)(_strict(each) for each in node)
    if not isinstance(node, dict):
        return node
    inner = {key: value if key in _NOT_SCHEMAS else _strict(value) for key, value in node.items()}
    kind = inner.get("type")
    if isinstance(kind, dict):  # the fields of a model, one of which is called `type`
        kind = None
    if kind in _STRICT:
        return {**inner, "strict": True}
    if kind in _NUMBERS:
        return core_schema.no_info_before_validator_function(_number, cast(CoreSchema, inner))
    if kind in _TEXTS:
        return core_schema.no_info_before_validator_function(_text, cast(CoreSchema, inner))
    return inner


def _number(value: object) -> object:
    """Pass a number. JSON has one kind: 5.0 is the integer 5 (RFC 8259, 6; JSON Schema, 4.2.3)."""
    if isinstance(value, str | bool):
        raise PydanticCustomError("number_type", "Input should be a number")
    return value


def _text(value: object) -> object:
    """Pass a text, or what a default of ours is; pydantic reads numbers as times."""
    if isinstance(value, bool | int | float) or (isinstance(value, str) and value.isdigit()):
        raise PydanticCustomError("string_type", "Input should be a valid string")
    return value
