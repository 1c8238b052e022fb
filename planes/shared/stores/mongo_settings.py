"""Where chunks are kept, if that is MongoDB, and how they are indexed and searched there."""

from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, SecretStr, model_validator

from planes.shared.errors import InvalidInput
from planes.shared.settings import SharedSettings

if TYPE_CHECKING:
    from planes.shared.stores.mongo_chunks import MongoChunks
    from planes.shared.stores.postgres import Database

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_NOWHERE = urlsplit("")


class MongoSettings(SharedSettings):
    """The settings of MongoDB, of which only `MONGO_URL` has no default."""

    mongo_url: SecretStr | None = Field(None, validation_alias="MONGO_URL")
    mongo_allow_plain: bool = Field(default=False, validation_alias="MONGO_ALLOW_PLAIN")
    mongo_database: str = Field("polyplane", validation_alias="MONGO_DATABASE", min_length=1)
    mongo_exact_search: bool = Field(default=False, validation_alias="MONGO_EXACT_SEARCH")
    mongo_vectors: Literal["binary", "array"] = Field("binary", validation_alias="MONGO_VECTORS")
    mongo_quantization: Literal["none", "scalar", "binary"] = Field(
        "none", validation_alias="MONGO_QUANTIZATION"
    )
    mongo_hnsw_max_edges: int = Field(16, ge=16, le=64, validation_alias="MONGO_HNSW_MAX_EDGES")
    mongo_hnsw_edge_candidates: int = Field(
        100, ge=100, le=3200, validation_alias="MONGO_HNSW_EDGE_CANDIDATES"
    )
    mongo_num_candidates: int = Field(
        2000, ge=1, le=10_000, validation_alias="MONGO_NUM_CANDIDATES"
    )
    mongo_index_wait_s: float = Field(600.0, gt=0, validation_alias="MONGO_INDEX_WAIT_S")
    mongo_deadline_s: float = Field(30.0, gt=0, validation_alias="MONGO_DEADLINE_S")

    @property
    def mongo_is_plain(self) -> bool:
        """Whether MongoDB is reached without TLS."""
        url = urlsplit(self.mongo_url.get_secret_value()) if self.mongo_url else _NOWHERE
        options = {name.lower(): value.lower() for name, value in parse_qsl(url.query)}
        says = options.get("tls", options.get("ssl"))
        return says != "true" and (says == "false" or url.scheme != "mongodb+srv")

    @model_validator(mode="after")
    def _check_mongo(self) -> Self:
        if self.mongo_url is None:
            return self
        url = urlsplit(self.mongo_url.get_secret_value())
        if url.scheme not in {"mongodb", "mongodb+srv"} or not url.netloc:
            raise ValueError("MONGO_URL begins with mongodb:// or mongodb+srv://")
        hosts = url.netloc.rpartition("@")[2].split(",")
        is_remote = any(urlsplit(f"//{host}").hostname not in _LOOPBACK for host in hosts)
        if is_remote and self.mongo_is_plain and not self.mongo_allow_plain:
            raise ValueError(
                "MONGO_URL is not encrypted: add tls=true to it, or set MONGO_ALLOW_PLAIN=true "
                "where the network is trusted"
            )
        return self


def mongo_chunks(settings: MongoSettings, registry: "Database", *, service: str) -> "MongoChunks":
    """Return the chunk store that the settings name; `open` connects it.

    Args:
        settings: With `MONGO_URL`.
        registry: PostgreSQL, which knows documents and how often terms occur.
        service: Shown in the log of MongoDB.

    Raises:
        InvalidInput: `MONGO_URL` is not set.
    """
    from planes.shared.stores.mongo import Mongo  # a driver that other stores do not need
    from planes.shared.stores.mongo_chunks import MongoChunks
    from planes.shared.stores.mongo_indexes import IndexOptions
    from planes.shared.stores.postgres_search_registry import SearchRegistry

    if settings.mongo_url is None:
        raise InvalidInput("Set MONGO_URL to the address of a MongoDB server.")
    mongo = Mongo(
        settings.mongo_url.get_secret_value(),
        database=settings.mongo_database,
        service=service,
        deadline_s=settings.mongo_deadline_s,
    )
    options = IndexOptions(
        quantization=settings.mongo_quantization,
        max_edges=settings.mongo_hnsw_max_edges,
        edge_candidates=settings.mongo_hnsw_edge_candidates,
        num_candidates=settings.mongo_num_candidates,
        wait_s=settings.mongo_index_wait_s,
    )
    return MongoChunks(
        mongo,
        SearchRegistry(registry),
        options=options,
        is_exact=settings.mongo_exact_search,
        in_arrays=settings.mongo_vectors == "array",
    )
