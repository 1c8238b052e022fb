"""Search indexes of a MongoDB double: their definitions, checked, and when they can be queried.

Definitions as documented for `vectorSearch` and `search` indexes
(https://www.mongodb.com/docs/vector-search/indexes/vector-search-type/,
https://www.mongodb.com/docs/search/indexes/index-definitions/), commands as documented for
`createSearchIndexes` (https://www.mongodb.com/docs/manual/reference/command/createSearchIndexes/)
and its neighbours. Wording and codes of refusals are those of mongot and mongod.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId
from pymongo.asynchronous.collection import AsyncCollection

from tests.servers.mongo_wire import CommandError, Document

_VECTOR_OPTIONS = {
    "type",
    "path",
    "numDimensions",
    "similarity",
    "quantization",
    "hnswOptions",
    "indexingMethod",
}
_SIMILARITIES = {"cosine", "dotProduct", "euclidean"}
_QUANTIZATIONS = {"none", "scalar", "binary"}
_MAX_DIMENSIONS = 8192
_HNSW = {"maxEdges": (16, 64), "numEdgeCandidates": (100, 3200)}
_ANALYZERS = {"lucene.whitespace", "lucene.standard", "lucene.keyword"}
_FIELD_TYPES = {"string", "token", "number", "boolean", "date", "objectId", "uuid"}


class SearchIndexes:
    """The search indexes of every collection, kept in a collection of the server behind."""

    def __init__(self, kept: AsyncCollection[Document], *, build_s: float) -> None:
        """Store where they are kept, and how long one is built before it can be queried."""
        self._kept = kept
        self._build_s = build_s

    async def create(self, namespace: str, indexes: Sequence[Document]) -> Document:
        """Answer `createSearchIndexes`; one that is there with the same definition stays."""
        created = []
        for index in indexes:
            name, kind = index.get("name", "default"), index.get("type", "search")
            definition = _plain(index["definition"])
            check_definition(kind, definition)
            known = await self.find(namespace, name)
            if known and (known["type"], known["definition"]) != (kind, definition):
                raise CommandError(
                    68,
                    "IndexAlreadyExists",
                    f"Index {name} already exists with a different definition. "
                    "Drop it first if needed.",
                )
            if not known:
                known = self._record(namespace, name, kind, definition, version=0)
                await self._kept.insert_one(known)
            created.append({"id": known["id"], "name": name})
        return {"ok": 1.0, "indexesCreated": created}

    async def update(self, namespace: str, name: str, definition: Document) -> Document:
        """Answer `updateSearchIndex`; the old definition is gone at once, unlike MongoDB's."""
        known = await self._existing(namespace, name)
        check_definition(known["type"], definition)
        version = known["version"] + 1
        newer = self._record(namespace, name, known["type"], _plain(definition), version=version)
        await self._kept.replace_one({"_id": known["_id"]}, newer)
        return {"ok": 1.0}

    async def drop(self, namespace: str, name: str) -> Document:
        """Answer `dropSearchIndex`."""
        known = await self._existing(namespace, name)
        await self._kept.delete_one({"_id": known["_id"]})
        return {"ok": 1.0}

    async def drop_all(self, namespace: str) -> None:
        """Forget those of a collection, which is dropped."""
        await self._kept.delete_many({"namespace": namespace})

    async def listed(self, namespace: str, wanted: Document) -> list[Document]:
        """Return the documents of `$listSearchIndexes`."""
        found = [index async for index in self._kept.find({"namespace": namespace})]
        return [
            _listed(index)
            for index in found
            if index["name"] == wanted.get("name", index["name"])
            and index["id"] == wanted.get("id", index["id"])
        ]

    async def find(self, namespace: str, name: str) -> Document | None:
        """Return an index as it is kept; None where there is none of that name."""
        return await self._kept.find_one({"_id": f"{namespace}/{name}"})

    async def _existing(self, namespace: str, name: str) -> Document:
        known = await self.find(namespace, name)
        if known is None:
            message = f"No index with name {name} exists in namespace {namespace}"
            raise CommandError(27, "IndexNotFound", message)
        return known

    def _record(
        self, namespace: str, name: str, kind: str, definition: Document, *, version: int
    ) -> Document:
        return {
            "_id": f"{namespace}/{name}",
            "id": str(ObjectId()),
            "namespace": namespace,
            "name": name,
            "type": kind,
            "definition": definition,
            "version": version,
            "created_at": time.time(),
            "ready_at": time.time() + self._build_s,
        }


def is_ready(index: Document) -> bool:
    """Whether an index is built."""
    return bool(time.time() >= index["ready_at"])


def _listed(index: Document) -> Document:
    ready = is_ready(index)
    created_at = datetime.fromtimestamp(index["created_at"], UTC)
    return {
        "id": index["id"],
        "name": index["name"],
        "type": index["type"],
        "status": "READY" if ready else "BUILDING",
        "queryable": ready,
        "latestDefinitionVersion": {"version": index["version"], "createdAt": created_at},
        "latestDefinition": index["definition"],
    }


def check_definition(kind: str, definition: Document) -> None:
    """Refuse a definition that MongoDB refuses.

    Raises:
        CommandError: 125, CommandFailed.
    """
    flaws = _flaws_of_vectors(definition) if kind == "vectorSearch" else _flaws_of_text(definition)
    for flaw in flaws:
        raise CommandError(125, "CommandFailed", flaw)


def _flaws_of_vectors(definition: Document) -> Iterator[str]:
    fields = definition.get("fields")
    if not fields:
        yield '"fields" is required'
        return
    if not any(field.get("type") == "vector" for field in fields):
        yield '"fields" must contain at least one "vector" field'
    for number, field in enumerate(fields):
        place = f'"fields[{number}]'
        known = {"type", "path"} if field.get("type") == "filter" else _VECTOR_OPTIONS
        for option in sorted(set(field) - known):
            yield f'{place}" unrecognized field "{option}"'
        if not field.get("path"):
            yield f'{place}.path" is required'
        if field.get("type") == "vector":
            yield from _flaws_of_vector(place, field)
        elif field.get("type") != "filter":
            yield f'{place}.type" must be one of [vector, filter]'


def _flaws_of_vector(place: str, field: Document) -> Iterator[str]:
    if not 1 <= field.get("numDimensions", 0) <= _MAX_DIMENSIONS:
        yield f'{place}.numDimensions" must be within bounds [1..{_MAX_DIMENSIONS}]'
    if field.get("similarity") not in _SIMILARITIES:
        yield f'{place}.similarity" must be one of [euclidean, cosine, dotProduct]'
    if field.get("quantization", "none") not in _QUANTIZATIONS:
        yield f'{place}.quantization" must be one of [none, scalar, binary]'
    for option, value in field.get("hnswOptions", {}).items():
        least, most = _HNSW.get(option, (1, 0))
        if not least <= value <= most:
            yield f'{place}.hnswOptions.{option}" must be within bounds [{least}..{most}]'


def _flaws_of_text(definition: Document) -> Iterator[str]:
    mappings = definition.get("mappings")
    if mappings is None:
        yield '"mappings" is required'
        return
    for path, field in mappings.get("fields", {}).items():
        if field.get("type") not in _FIELD_TYPES:
            yield f'"mappings.fields.{path}.type" must be one of {sorted(_FIELD_TYPES)}'
        if field.get("analyzer", "lucene.standard") not in _ANALYZERS:
            yield f"analyzer {field['analyzer']} not found"


def _plain(value: Any) -> Any:
    if hasattr(value, "items"):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value
