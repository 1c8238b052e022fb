"""What Qdrant's REST API says, in the words of its embedded engine, and back."""

from typing import Any
from uuid import UUID

import qdrant_edge as edge
from qdrant_client import models

_GRAPHS_FROM_KB = 100  # 65 vectors; Qdrant's own is 10,000, and tests are small
_DISTANCES = {models.Distance.DOT: edge.Distance.Dot, models.Distance.COSINE: edge.Distance.Cosine}


def config_of(collection: models.CreateCollection) -> edge.EdgeConfig:
    """Return how a shard is made, where vectors have names."""
    assert isinstance(collection.vectors, dict)
    hnsw = collection.hnsw_config or models.HnswConfigDiff()
    return edge.EdgeConfig(
        vectors={
            name: edge.EdgeVectorParams(size=shape.size, distance=_DISTANCES[shape.distance])
            for name, shape in collection.vectors.items()
        },
        sparse_vectors={
            name: edge.EdgeSparseVectorParams() for name in collection.sparse_vectors or {}
        },
        hnsw_config=edge.HnswIndexConfig(
            m=hnsw.m if hnsw.m is not None else 16,
            ef_construct=hnsw.ef_construct or 100,
            full_scan_threshold=_GRAPHS_FROM_KB,
            payload_m=hnsw.payload_m,
        ),
        quantization_config=_quantization(collection.quantization_config),
        optimizers=edge.EdgeOptimizersConfig(indexing_threshold=_GRAPHS_FROM_KB),
    )


def _quantization(wanted: models.QuantizationConfig | None) -> Any:
    if wanted is None:
        return None
    assert isinstance(wanted, models.ScalarQuantization)
    return edge.ScalarQuantizationConfig(
        type=edge.ScalarType.Int8, always_ram=wanted.scalar.always_ram
    )


def index_of(schema: Any) -> Any:
    """Return how a field is indexed."""
    if isinstance(schema, models.UuidIndexParams):
        return edge.UuidIndexParams(is_tenant=schema.is_tenant)
    assert isinstance(schema, models.IntegerIndexParams)
    return edge.IntegerIndexParams(lookup=schema.lookup, range=schema.range)


def filter_of(wanted: models.Filter | None) -> edge.Filter | None:
    """Return a filter, if there is one."""
    if wanted is None:
        return None
    return edge.Filter(
        must=_conditions(wanted.must),
        should=_conditions(wanted.should),
        must_not=_conditions(wanted.must_not),
    )


def _conditions(conditions: Any) -> list[Any] | None:
    if conditions is None:
        return None
    several = conditions if isinstance(conditions, list) else [conditions]
    return [_condition(condition) for condition in several]


def _condition(condition: Any) -> Any:
    if isinstance(condition, models.Filter):
        return filter_of(condition)
    if isinstance(condition, models.HasIdCondition):
        return edge.HasIdCondition({UUID(str(each)) for each in condition.has_id})
    assert isinstance(condition, models.FieldCondition)
    if condition.range is not None:
        assert isinstance(condition.range, models.Range)
        between = edge.RangeFloat(gte=condition.range.gte, lte=condition.range.lte)
        return edge.FieldCondition(condition.key, range=between)
    return edge.FieldCondition(condition.key, match=_match(condition.match))


def _match(match: Any) -> Any:
    if isinstance(match, models.MatchAny):
        return edge.MatchAny(list(match.any))
    assert isinstance(match, models.MatchValue)
    return edge.MatchValue(match.value)


def point_of(point: models.PointStruct) -> edge.Point:
    """Return a point with named vectors."""
    assert isinstance(point.vector, dict)
    vectors = {name: _vector(vector) for name, vector in point.vector.items()}
    return edge.Point(UUID(str(point.id)), vectors, point.payload or {})


def _vector(vector: Any) -> Any:
    if isinstance(vector, models.SparseVector):
        return edge.SparseVector(vector.indices, vector.values)
    return vector


def query_of(request: models.QueryRequest) -> edge.QueryRequest:
    """Return a search for what is nearest to a vector."""
    params = request.params or models.SearchParams()
    rescored = params.quantization
    asked = request.query
    if isinstance(asked, models.NearestQuery):
        asked = asked.nearest
    return edge.QueryRequest(
        limit=request.limit or 10,
        query=edge.Query.Nearest(_vector(asked), using=request.using),
        filter=filter_of(request.filter),
        with_payload=bool(request.with_payload),
        params=edge.SearchParams(
            hnsw_ef=params.hnsw_ef,
            exact=bool(params.exact),
            quantization=rescored
            and edge.QuantizationSearchParams(
                rescore=rescored.rescore, oversampling=rescored.oversampling
            ),
        ),
    )


def scored(point: edge.ScoredPoint) -> dict[str, Any]:
    """Return what a search found."""
    return {
        "id": str(point.id),
        "version": point.version,
        "score": point.score,
        "payload": point.payload,
    }


def record(point: edge.Record) -> dict[str, Any]:
    """Return a stored point, its vectors as far as they were asked for."""
    return {"id": str(point.id), "payload": point.payload, "vector": point.vector}
