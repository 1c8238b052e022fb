"""Building blocks of every request and answer."""

from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_core import CoreSchema

from services.gateway.strictness import as_json_has_it

Item = TypeVar("Item")

_MAX_MEMBERS = 100


class InputModel(BaseModel):
    """A request body: unknown fields are refused, and a value of another type is not converted.

    `"stream": "yes"` or `"top_k": "5"` are mistakes, which conversion would hide.
    """

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)

    @model_validator(mode="before")
    @classmethod
    def _has_few_members(cls, value: Any) -> Any:
        """Refuse many unknown fields as one mistake: naming each would block the event loop."""
        if isinstance(value, dict) and len(value) > _MAX_MEMBERS:
            raise ValueError(f"an object of more than {_MAX_MEMBERS} members")
        return value

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema that pydantic makes, without its conversions."""
        return as_json_has_it(handler(source))


class Page(BaseModel, Generic[Item]):
    """A part of a list, newest first unless the route says otherwise."""

    items: list[Item]
    next_cursor: str | None = Field(
        description="Pass it as `cursor` for the next part; null at the end."
    )


def is_unicode(value: str) -> bool:
    """Tell whether a text holds no half of a surrogate pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _storable(value: str) -> str:
    """Refuse what no database stores: the NUL character and lone surrogates."""
    if "\x00" in value:
        raise ValueError("the NUL character is not allowed")
    if not is_unicode(value):
        raise ValueError("the text is not valid Unicode")
    return value


Text = Annotated[
    str, AfterValidator(_storable), Field(json_schema_extra={"pattern": r"^[^\u0000]*$"})
]
NOT_BLANK: JsonDict = {"pattern": r"^[^\u0000]*[^\s\u0000\u001c-\u001f][^\u0000]*$"}
"""What the OpenAPI document says of a text that must hold more than white space."""
Name = Annotated[Text, Field(min_length=1, max_length=200)]
Tag = Annotated[Text, Field(min_length=1, max_length=64)]
