"""`$search` of a MongoDB double: BM25 over the documents of the server behind.

https://www.mongodb.com/docs/search/query/aggregation-stages/search/ and the operators `compound`,
`text`, `equals` and `in` beside it. The score is that of Lucene's BM25 with exact lengths, over the
whole collection, tenants and all, as mongot's. Wording and codes of refusals are mongot's.
"""

import heapq
import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

from pymongo.asynchronous.collection import AsyncCollection

from tests.servers.mongo_search_indexes import SearchIndexes, is_ready
from tests.servers.mongo_vector_search import Scored, refusal
from tests.servers.mongo_wire import Document

_SATURATION, _LENGTH_SHARE = 1.2, 0.75
_MOST = 10_000
_CLAUSES = {"must", "should", "mustNot", "filter", "minimumShouldMatch", "score"}
_OF_STAGE = {"index", "compound", "text", "equals", "in"}
_WORD = re.compile(r"\w+")

Match: TypeAlias = "Callable[[Document], float | None]"
"""Returns a document's score; None: it does not match."""


async def text_search(
    collection: AsyncCollection[Document], stage: Document, indexes: SearchIndexes
) -> Scored:
    """Return matching documents with their scores, best first; none where there is no index.

    Raises:
        CommandError: What MongoDB refuses.
    """
    for option in sorted(set(stage) - _OF_STAGE):
        raise refusal(f'unrecognized field "{option}"')
    index = await indexes.find(collection.full_name, stage.get("index", "default"))
    if index is None or index["type"] != "search":
        return []
    if not is_ready(index):
        raise refusal(f"cannot query search index {index['name']} while in state INITIAL_SYNC")
    fields = index["definition"]["mappings"].get("fields", {})
    operator = {name: value for name, value in stage.items() if name != "index"}
    documents = [document async for document in collection.find()]
    match = _Query(fields, documents).operator(operator)
    scored = [(match(document), document) for document in documents]
    best = [(score, str(one["_id"]), one) for score, one in scored if score is not None]
    best = heapq.nsmallest(_MOST, best, key=lambda found: (-found[0], found[1]))
    return [(score, document) for score, _, document in best]


class _Query:
    def __init__(self, fields: Document, documents: list[Document]) -> None:
        self._fields = fields
        self._documents = documents

    def operator(self, operator: Document) -> Match:
        if len(operator) != 1:
            raise refusal("exactly one operator must be present")
        ((name, body),) = operator.items()
        if name == "compound":
            return self._compound(body)
        if name == "text":
            return self._text(body)
        if name == "equals":
            return self._one_of(body["path"], [body["value"]])
        if name == "in":
            values = body["value"] if isinstance(body["value"], list) else [body["value"]]
            if not values:
                raise refusal('"in.value" cannot be empty')
            return self._one_of(body["path"], values)
        raise refusal(f'unrecognized field "{name}"')

    def _compound(self, body: Document) -> Match:
        for option in sorted(set(body) - _CLAUSES):
            raise refusal(f'"compound" unrecognized field "{option}"')
        clauses = {
            name: [self.operator(each) for each in _listed(body.get(name, []))]
            for name in ("must", "should", "mustNot", "filter")
        }
        if not any(clauses.values()):
            raise refusal('"compound" must have at least one clause')
        needed = body.get("minimumShouldMatch", 0)
        if not needed and not clauses["must"] and not clauses["filter"]:
            needed = 1

        def match(document: Document) -> float | None:
            must = [clause(document) for clause in clauses["must"]]
            should = [clause(document) for clause in clauses["should"]]
            if (
                None in must
                or any(clause(document) is None for clause in clauses["filter"])
                or any(clause(document) is not None for clause in clauses["mustNot"])
                or sum(score is not None for score in should) < needed
            ):
                return None
            return math.fsum(score for score in [*must, *should] if score is not None)

        return match

    def _one_of(self, path: str, values: list[Any]) -> Match:
        if self._fields.get(path, {}).get("type") != "token":
            raise refusal(f"Path '{path}' needs to be indexed as token")

        def match(document: Document) -> float | None:
            held = _listed(document.get(path, []))
            return 1.0 if any(value in values for value in held) else None

        return match

    def _text(self, body: Document) -> Match:
        parts = [
            self._bm25(path, " ".join(_listed(body["query"]))) for path in _listed(body["path"])
        ]

        def match(document: Document) -> float | None:
            scores = [score for part in parts if (score := part(document)) is not None]
            return math.fsum(scores) if scores else None

        return match

    def _bm25(self, path: str, query: str) -> Match:
        field = self._fields.get(path, {})
        if field.get("type") != "string":
            return lambda _: None  # what is not indexed is not found
        words = _analyser(field.get("analyzer", "lucene.standard"))
        counts = {
            str(one["_id"]): Counter(words(one[path])) for one in self._documents if one.get(path)
        }
        mean = sum(count.total() for count in counts.values()) / max(1, len(counts))
        weights = {}
        for term in set(words(query)):
            holding = sum(term in count for count in counts.values())
            weights[term] = math.log(1 + (len(counts) - holding + 0.5) / (holding + 0.5))

        def match(document: Document) -> float | None:
            count = counts.get(str(document["_id"]), Counter())
            share = _SATURATION * (1 - _LENGTH_SHARE + _LENGTH_SHARE * count.total() / (mean or 1))
            scores = [
                weight * count[term] / (count[term] + share)
                for term, weight in weights.items()
                if count[term]
            ]
            return math.fsum(scores) if scores else None

        return match


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _analyser(name: str) -> Callable[[str], list[str]]:
    if name == "lucene.whitespace":
        return str.split
    if name == "lucene.keyword":
        return lambda text: [text]
    return lambda text: _WORD.findall(text.lower())
