"""Which documents a client wants to be searched: tags, times, and its own metadata."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, AwareDatetime, Field, ValidationError, model_validator
from pydantic.config import JsonDict

from planes.shared.domain import Comparison, DocumentFilter, MetadataCondition
from services.gateway.documents.labels import storable_object
from services.gateway.schemas import InputModel, Tag

_MAX_MEMBERS = 32
_MAX_VALUES = 100
_OPERATOR = "$"
_Bound = int | float | str
_ANY_VALUE: JsonDict = {
    "anyOf": [
        {"type": ["string", "number", "boolean", "null", "array"]},
        {"type": "object", "propertyNames": {"pattern": r"^[^$]"}, "minProperties": 1},
        {
            "type": "object",
            "properties": {
                "$in": {"type": "array", "minItems": 1, "maxItems": _MAX_VALUES},
                "$gte": {"type": ["number", "string"]},
                "$lte": {"type": ["number", "string"]},
            },
            "additionalProperties": False,
            "minProperties": 1,
        },
    ]
}


class _Operators(InputModel):
    """The whole set of operators; another one is refused."""

    is_in: list[Any] = Field([], alias="$in", min_length=1, max_length=_MAX_VALUES)
    at_least: _Bound = Field(0, alias="$gte")
    at_most: _Bound = Field(0, alias="$lte")

    def conditions(self, key: str) -> list[MetadataCondition]:
        """Return what must hold of a member of the metadata: what was sent, and no default."""
        wanted = {
            "is_in": (Comparison.IN, self.is_in),
            "at_least": (Comparison.AT_LEAST, self.at_least),
            "at_most": (Comparison.AT_MOST, self.at_most),
        }
        return [MetadataCondition(key, *wanted[name]) for name in sorted(self.model_fields_set)]


def _checked(value: dict[str, Any]) -> dict[str, Any]:
    """Return a filter that can be searched with.

    Raises:
        ValueError: It holds an unknown operator, or what no metadata can.
    """
    stored = storable_object(value)
    for key, wanted in stored.items():
        if key.startswith(_OPERATOR):
            raise ValueError(f"{key} is no member of metadata, and conditions are not combined")
        if _has_operators(wanted):
            _operators(key, wanted)
        elif wanted == {}:
            raise ValueError(f"{key}: an empty object says nothing")
    return stored


def _has_operators(wanted: object) -> bool:
    return isinstance(wanted, dict) and any(name.startswith(_OPERATOR) for name in wanted)


def _operators(key: str, wanted: Mapping[str, Any]) -> _Operators:
    try:
        return _Operators.model_validate(wanted)
    except ValidationError as error:
        flaw = error.errors()[0]
        place = f"{key}.{flaw['loc'][0]}"  # behind it are names of the types that were tried
        raise ValueError(f"{place}: {flaw['msg']}; the operators are $in, $gte and $lte") from None


MetadataFilter = Annotated[
    dict[str, Any],
    AfterValidator(_checked),
    Field(
        max_length=_MAX_MEMBERS,
        description="Only documents whose metadata hold these members. A value is compared as it "
        "is, an object by containment; `$in`, `$gte` and `$lte` compare otherwise.",
        examples=[{"department": "legal", "year": {"$gte": 2024}, "state": {"$in": ["a", "b"]}}],
        json_schema_extra={"additionalProperties": _ANY_VALUE},
    ),
]


class Narrowing(InputModel):
    """What narrows a search to some documents, besides their ids."""

    tags: list[Tag] | None = Field(
        default=None, max_length=32, description="Only documents with one of these tags."
    )
    filter: MetadataFilter | None = None
    uploaded_from: AwareDatetime | None = Field(
        default=None, description="Only documents that were uploaded then or later."
    )
    uploaded_to: AwareDatetime | None = Field(
        default=None, description="Only documents that were uploaded before."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        times = (self.uploaded_from, self.uploaded_to)
        if any(time and not 2000 <= time.year < 3000 for time in times):
            raise ValueError("times lie between the years 2000 and 3000")
        if self.uploaded_from and self.uploaded_to and self.uploaded_from >= self.uploaded_to:
            raise ValueError("`uploaded_from` must be before `uploaded_to`")
        return self

    def documents(self) -> DocumentFilter | None:
        """Return which documents are meant; None where nothing narrows them."""
        wanted = (self.tags, self.filter, self.uploaded_from, self.uploaded_to)
        if all(each is None for each in wanted):
            return None
        members = self.filter or {}
        return DocumentFilter(
            tags=None if self.tags is None else tuple(self.tags),
            uploaded_from=self.uploaded_from,
            uploaded_to=self.uploaded_to,
            metadata={k: v for k, v in members.items() if not _has_operators(v)},
            conditions=tuple(
                condition
                for key, value in members.items()
                if _has_operators(value)
                for condition in _operators(key, value).conditions(key)
            ),
        )
