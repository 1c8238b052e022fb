"""`python -m tests.servers.qdrant_edge --folder DIR --port N`: serves until it is stopped.

The engine is Qdrant's own (segments, write-ahead log, graphs, filters, sparse vectors); the rest of
a server is not: one node, one shard, and the ten requests that the platform makes.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import qdrant_edge as edge
import uvicorn
from pydantic import TypeAdapter
from qdrant_client import models
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.servers.qdrant_edge import translation

_POINTS = TypeAdapter(models.PointsList)
_SHAPE = "collection.json"
_GRAPHS_AFTER = 500  # new points; the engine makes graphs only when it is told to


class Collections:
    """The collections in a folder."""

    def __init__(self, folder: Path) -> None:
        """Load those that are there."""
        self.folder = folder
        self.shapes: dict[str, models.CreateCollection] = {}
        self.shards: dict[str, edge.EdgeShard] = {}
        for path in folder.glob(f"*/{_SHAPE}"):
            name = path.parent.name
            self.shapes[name] = models.CreateCollection.model_validate_json(path.read_text("utf-8"))
            self.shards[name] = edge.EdgeShard.load(str(path.parent / "shard"))

    def create(self, name: str, shape: models.CreateCollection) -> None:
        """Make an empty collection; it is there once its shape is."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        shard = self.folder / name / "shard"
        shard.mkdir(parents=True)
        self.shards[name] = edge.EdgeShard.create(str(shard), translation.config_of(shape))
        self.shapes[name] = shape
        (self.folder / name / _SHAPE).write_text(shape.model_dump_json(), "utf-8")

    def drop(self, name: str) -> None:
        """Remove a collection."""
        (self.folder / name / _SHAPE).unlink()
        del self.shapes[name]
        self.shards.pop(name).close()
        shutil.rmtree(self.folder / name)


class Refused(Exception):
    """What the server does not do, with a status."""

    def __init__(self, status: int, message: str) -> None:
        """Store both."""
        super().__init__(message)
        self.status = status


class Api:
    """The requests."""

    def __init__(self, collections: Collections, *, api_key: str, version: str) -> None:
        """Store what is served; an empty key lets everybody in."""
        self._collections = collections
        self._api_key = api_key
        self._version = version
        self._unindexed: dict[str, int] = {}

    @property
    def routes(self) -> list[Route]:
        """What is answered."""
        one, points = "/collections/{name}", "/collections/{name}/points"
        return [
            Route("/", self._answered(self.version)),
            Route("/collections", self._answered(self.all)),
            Route(one, self._answered(self.get)),
            Route(one, self._answered(self.create), methods=["PUT"]),
            Route(one, self._answered(self.drop), methods=["DELETE"]),
            Route(f"{one}/index", self._answered(self.index), methods=["PUT"]),
            Route(points, self._answered(self.upsert), methods=["PUT"]),
            Route(f"{points}/delete", self._answered(self.delete), methods=["POST"]),
            Route(f"{points}/query/batch", self._answered(self.query), methods=["POST"]),
            Route(f"{points}/scroll", self._answered(self.scroll), methods=["POST"]),
            Route(f"{points}/count", self._answered(self.count), methods=["POST"]),
            Route(f"{one}/facet", self._answered(self.facet), methods=["POST"]),
        ]

    def _answered(self, act: Any) -> Any:
        async def endpoint(request: Request) -> JSONResponse:
            try:
                self._admit(request)
                name = request.path_params.get("name")
                if name is not None and request.method != "DELETE" and act != self.create:
                    self._shard(name)
                result = act(name, await request.body())
            except Refused as error:
                return JSONResponse({"status": {"error": str(error)}}, error.status)
            except Exception as error:  # the engine has no kind of its own
                return JSONResponse({"status": {"error": str(error)}}, 400)
            if act == self.version:
                return JSONResponse(result)
            return JSONResponse({"result": result, "status": "ok", "time": 0.0})

        return endpoint

    def _admit(self, request: Request) -> None:
        is_known = request.headers.get("api-key", "") == self._api_key
        if self._api_key and request.url.path != "/" and not is_known:
            raise Refused(401, "Must provide an API key")

    def _shard(self, name: str) -> edge.EdgeShard:
        if name not in self._collections.shards:
            raise Refused(404, f"Not found: Collection `{name}` doesn't exist!")
        return self._collections.shards[name]

    def version(self, _: None, __: bytes) -> Any:
        """What the server is."""
        return {"title": "qdrant - vector search engine", "version": self._version}

    def all(self, _: None, __: bytes) -> Any:
        """The collections' names."""
        return {"collections": [{"name": name} for name in self._collections.shapes]}

    def get(self, name: str, _: bytes) -> Any:
        """A collection's shape and size."""
        shape, info = self._collections.shapes[name], self._shard(name).info()
        params = {"vectors", "sparse_vectors", "shard_number", "replication_factor"}
        return {
            "status": "green",
            "optimizer_status": "ok",
            "points_count": info.points_count,
            "segments_count": info.segments_count,
            "payload_schema": {},
            "config": {
                "params": json.loads(shape.model_dump_json(include=params, exclude_none=True)),
                "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000},
                "optimizer_config": {
                    "deleted_threshold": 0.2,
                    "vacuum_min_vector_number": 1000,
                    "default_segment_number": 0,
                    "flush_interval_sec": 5,
                },
            },
        }

    def create(self, name: str, body: bytes) -> Any:
        """Make a collection."""
        if name in self._collections.shapes:
            raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
        self._collections.create(name, models.CreateCollection.model_validate_json(body))
        return True

    def drop(self, name: str, _: bytes) -> Any:
        """Remove a collection; tell whether there was one."""
        is_there = name in self._collections.shapes
        if is_there:
            self._collections.drop(name)
        return is_there

    def index(self, name: str, body: bytes) -> Any:
        """Index a field of the payloads."""
        wanted = models.CreateFieldIndex.model_validate_json(body)
        return self._update(
            name,
            edge.UpdateOperation.create_field_index(
                wanted.field_name, translation.index_of(wanted.field_schema)
            ),
        )

    def upsert(self, name: str, body: bytes) -> Any:
        """Write points."""
        points = [translation.point_of(point) for point in _POINTS.validate_json(body).points]
        answer = self._update(name, edge.UpdateOperation.upsert_points(points))
        self._unindexed[name] = self._unindexed.get(name, 0) + len(points)
        if self._unindexed[name] >= _GRAPHS_AFTER:
            self._shard(name).optimize()
            self._unindexed[name] = 0
        return answer

    def delete(self, name: str, body: bytes) -> Any:
        """Remove the points that a filter means."""
        wanted = models.FilterSelector.model_validate_json(body).filter
        return self._update(
            name, edge.UpdateOperation.delete_points_by_filter(translation.filter_of(wanted))
        )

    def query(self, name: str, body: bytes) -> Any:
        """Search several times."""
        searches = models.QueryRequestBatch.model_validate_json(body).searches
        found = (self._shard(name).query(translation.query_of(search)) for search in searches)
        return [{"points": [translation.scored(point) for point in points]} for points in found]

    def scroll(self, name: str, body: bytes) -> Any:
        """Read points by their ids, a page at a time."""
        wanted = models.ScrollRequest.model_validate_json(body)
        points, after = self._shard(name).scroll(
            edge.ScrollRequest(
                offset=wanted.offset,
                limit=wanted.limit,
                filter=translation.filter_of(wanted.filter),
                with_payload=wanted.with_payload,
                with_vector=wanted.with_vector,
            )
        )
        return {
            "points": [translation.record(point) for point in points],
            "next_page_offset": None if after is None else str(after),
        }

    def count(self, name: str, body: bytes) -> Any:
        """Count points."""
        wanted = models.CountRequest.model_validate_json(body)
        counted = edge.CountRequest(
            exact=bool(wanted.exact), filter=translation.filter_of(wanted.filter)
        )
        return {"count": self._shard(name).count(counted)}

    def facet(self, name: str, body: bytes) -> Any:
        """Count points by the values of a field."""
        wanted = models.FacetRequest.model_validate_json(body)
        answer = self._shard(name).facet(
            edge.FacetRequest(
                key=wanted.key,
                limit=wanted.limit or 10,
                exact=bool(wanted.exact),
                filter=translation.filter_of(wanted.filter),
            )
        )
        return {"hits": [{"value": str(hit.value), "count": hit.count} for hit in answer.hits]}

    def _update(self, name: str, operation: edge.UpdateOperation) -> Any:
        self._shard(name).update(operation)
        return {"operation_id": 0, "status": "completed"}


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--api-key", default="")
    parser.add_argument("--version", default="1.19.0")
    arguments = parser.parse_args()
    api = Api(Collections(arguments.folder), api_key=arguments.api_key, version=arguments.version)
    uvicorn.run(
        Starlette(routes=api.routes), host="127.0.0.1", port=arguments.port, log_level="warning"
    )


if __name__ == "__main__":
    main()
