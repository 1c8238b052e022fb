"""Where Qdrant is, and how its collections are made and searched."""

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from planes.shared.settings import SharedSettings

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class QdrantSettings(SharedSettings):
    """`QDRANT_URL` and what belongs to it.

    What describes collections (quantisation, graphs, shards, replicas) takes effect where a
    generation is made.
    """

    qdrant_url: SecretStr | None = Field(None, validation_alias="QDRANT_URL")
    qdrant_api_key: SecretStr | None = Field(None, validation_alias="QDRANT_API_KEY")
    qdrant_allow_http: bool = Field(default=False, validation_alias="QDRANT_ALLOW_HTTP")
    qdrant_prefix: str = Field("", validation_alias="QDRANT_PREFIX", pattern="^[A-Za-z0-9_-]*$")
    qdrant_deadline_s: float = Field(10.0, validation_alias="QDRANT_DEADLINE_S", gt=0, le=300)
    qdrant_exact_search: bool = Field(default=False, validation_alias="QDRANT_EXACT_SEARCH")
    qdrant_hnsw_m: int = Field(16, validation_alias="QDRANT_HNSW_M", ge=4, le=128)
    qdrant_hnsw_ef_construct: int = Field(
        128, validation_alias="QDRANT_HNSW_EF_CONSTRUCT", ge=4, le=4096
    )
    qdrant_hnsw_ef: int = Field(256, validation_alias="QDRANT_HNSW_EF", ge=1, le=10_000)
    qdrant_quantization: Literal["none", "int8"] = Field(
        "none", validation_alias="QDRANT_QUANTIZATION"
    )
    qdrant_shards: int = Field(1, validation_alias="QDRANT_SHARDS", ge=1, le=1024)
    qdrant_replicas: int = Field(1, validation_alias="QDRANT_REPLICAS", ge=1, le=16)

    @model_validator(mode="after")
    def _check_qdrant(self) -> Self:
        if self.qdrant_url is None:
            return self
        address = urlsplit(self.qdrant_url.get_secret_value())
        if address.scheme not in {"http", "https"} or not address.hostname:
            raise ValueError("QDRANT_URL is like https://host:6333")
        is_plain = address.scheme == "http" and address.hostname not in _LOOPBACK
        if is_plain and not self.qdrant_allow_http:
            raise ValueError(
                "QDRANT_URL is not encrypted: use https://, or set QDRANT_ALLOW_HTTP=true where "
                "the network is trusted"
            )
        return self
