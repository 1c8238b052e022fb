"""Building blocks of every request and answer."""

from typing import Annotated, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Item = TypeVar("Item")


class InputModel(BaseModel):
    """A request body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)


class Page(BaseModel, Generic[Item]):
    """A part of a list, newest first unless the route says otherwise."""

    items: list[Item]
    next_cursor: str | None = Field(
        description="Pass it as `cursor` for the next part; null at the end."
    )


def _storable(value: str) -> str:
    """Refuse what no database stores: the NUL character and lone surrogates."""
    if "\x00" in value:
        raise ValueError("the NUL character is not allowed")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError("the text is not valid Unicode")
    return value


Text = Annotated[str, AfterValidator(_storable)]
Name = Annotated[str, AfterValidator(_storable), Field(min_length=1, max_length=200)]
Tag = Annotated[str, AfterValidator(_storable), Field(min_length=1, max_length=64)]
