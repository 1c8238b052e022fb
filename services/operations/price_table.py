"""The prices by which costs are computed: a YAML file of tiers, read exactly and checked whole."""

from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, ValidationError

_Positive = Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]
_Price = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]
_Share = Annotated[Decimal, Field(gt=0, le=1, allow_inf_nan=False)]
_Title = Annotated[str, Field(min_length=1)]


class PricesWrong(Exception):
    """The file of prices cannot be used; the message names every place and what is wrong there."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Listed(_Model):
    """Something with the page that lists its price, and the day of which the price is."""

    source: HttpUrl
    date: date


class HourlyItem(_Listed):
    """What is paid for every hour: `quantity` units, each `usd` for `hours` hours."""

    item: _Title
    quantity: _Positive
    unit: _Title
    usd: _Price
    hours: _Positive = Decimal(1)


class TokenPrices(_Listed):
    """A model that somebody else runs; US dollars for a million tokens."""

    kind: Literal["tokens"]
    title: _Title
    prompt_usd: _Price
    completion_usd: _Price


class GpuPrices(_Model):
    """A model on a card of one's own: tokens a second of all its answers together when it is busy.

    `busy` is the share of the hours paid for in which it is.
    """

    kind: Literal["gpu"]
    title: _Title
    prompt_tokens_per_s: _Positive
    completion_tokens_per_s: _Positive
    busy: _Share
    hourly: Annotated[tuple[HourlyItem, ...], Field(min_length=1)]


class Tier(_Model):
    """One way to run the platform.

    Attributes:
        title: What it is, for people.
        cores: Processors that answers share.
        busy: The share of their time, in the long run, in which they work on answers.
        hourly: Everything that is paid for by the hour, but the model's cards.
        generator: What a language model costs besides, where there is one.
    """

    title: _Title
    cores: _Positive
    busy: _Share
    hourly: Annotated[tuple[HourlyItem, ...], Field(min_length=1)]
    generator: Annotated[TokenPrices | GpuPrices, Field(discriminator="kind")] | None = None

    def dates(self) -> list[date]:
        """Return the day of each price."""
        listed: list[_Listed] = [*self.hourly]
        if isinstance(self.generator, TokenPrices):
            listed.append(self.generator)
        elif self.generator is not None:
            listed += self.generator.hourly
        return [each.date for each in listed]


class PriceTable(_Model):
    """All tiers by their names, in the file's order."""

    tiers: Annotated[dict[str, Tier], Field(min_length=1)]


def read_prices(path: Path) -> PriceTable:
    """Read a file of prices; its numbers are taken digit by digit.

    Raises:
        PricesWrong: It cannot be read, is no YAML, or is no table of prices.
    """
    try:
        content = yaml.load(path.read_bytes(), _Exactly)  # noqa: S506 (a safe loader)
    except OSError as error:
        raise PricesWrong(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:  # such as the 31st of February
        raise PricesWrong(f"{path} is no YAML: {error}") from error
    try:
        return PriceTable.model_validate(content)
    except ValidationError as error:
        flaws = (_flaw(each["loc"], each["msg"]) for each in error.errors(include_url=False))
        raise PricesWrong("\n".join((f"{path} is no table of prices:", *flaws))) from error


def _flaw(place: tuple[int | str, ...], message: str) -> str:
    words = (f"[{each}]" if isinstance(each, int) else f".{each}" for each in place)
    return f"  {''.join(words).removeprefix('.') or 'the file'}: {message}"


class _Exactly(yaml.SafeLoader):  # type: ignore[misc]
    """Reads numbers with a point as decimals, and refuses a key that stands twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key} stands twice", node.value[number][0].start_mark
                )
        found: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return found

    def construct_decimal(self, node: Any) -> Decimal:
        try:
            return Decimal(self.construct_scalar(node))
        except InvalidOperation as error:
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value} is no number", node.start_mark
            ) from error


_Exactly.add_constructor("tag:yaml.org,2002:float", _Exactly.construct_decimal)
