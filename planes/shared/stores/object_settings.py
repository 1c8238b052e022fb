"""Where uploaded files and extracted texts are kept: a folder, or an S3 bucket."""

from datetime import timedelta
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from planes.shared.ports import ObjectStore
from planes.shared.settings import AbsolutePath, SharedSettings
from planes.shared.stores.objects import FolderObjects

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Store

_WHOLE_TRANSFER = timedelta(hours=1)
_SILENCE = timedelta(seconds=20)
_RETRIES = 2
_RETRIED_FOR = timedelta(seconds=20)
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class ObjectStoreSettings(SharedSettings):
    """`OBJECTS_DIR` or `S3_BUCKET`; the bucket wins where both are set."""

    objects_dir: AbsolutePath | None = Field(None, validation_alias="OBJECTS_DIR")
    s3_bucket: str | None = Field(None, validation_alias="S3_BUCKET")
    s3_prefix: str = Field("", validation_alias="S3_PREFIX")
    s3_endpoint: str | None = Field(None, validation_alias="S3_ENDPOINT")
    s3_region: str = Field("us-east-1", validation_alias="S3_REGION")
    s3_access_key_id: SecretStr | None = Field(None, validation_alias="S3_ACCESS_KEY_ID")
    s3_secret_access_key: SecretStr | None = Field(None, validation_alias="S3_SECRET_ACCESS_KEY")
    s3_allow_http: bool = Field(default=False, validation_alias="S3_ALLOW_HTTP")
    s3_encryption: Literal["AES256", "aws:kms"] | None = Field(
        None, validation_alias="S3_ENCRYPTION"
    )
    s3_kms_key_id: str | None = Field(None, validation_alias="S3_KMS_KEY_ID")

    @property
    def s3_is_plain(self) -> bool:
        """Whether the object store is reached without TLS."""
        return urlsplit(self.s3_endpoint or "").scheme == "http"

    @model_validator(mode="after")
    def _check_object_store(self) -> Self:
        if self.objects_dir is None and self.s3_bucket is None:
            raise ValueError("set OBJECTS_DIR, or S3_BUCKET with what belongs to it")
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            raise ValueError("set both S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, or neither")
        if self.s3_kms_key_id is not None and self.s3_encryption != "aws:kms":
            raise ValueError("S3_KMS_KEY_ID wants S3_ENCRYPTION=aws:kms")
        endpoint = urlsplit(self.s3_endpoint or "https://")
        if endpoint.scheme not in {"http", "https"}:
            raise ValueError("S3_ENDPOINT begins with https:// or http://")
        if self.s3_is_plain and not self.s3_allow_http and endpoint.hostname not in _LOOPBACK:
            raise ValueError(
                "S3_ENDPOINT is not encrypted: use https://, or set S3_ALLOW_HTTP=true where the "
                "network is trusted"
            )
        return self


def object_store(settings: ObjectStoreSettings) -> ObjectStore:
    """Return the object store that the settings name; it connects with its first call."""
    if settings.s3_bucket is not None:
        from planes.shared.stores.s3_objects import S3Objects  # 15 MB that a folder does not need

        return S3Objects(_bucket(settings.s3_bucket, settings))
    assert settings.objects_dir is not None  # noqa: S101 (checked with the settings)
    return FolderObjects(settings.objects_dir)


def _bucket(name: str, settings: ObjectStoreSettings) -> "S3Store":
    from obstore.store import S3Store

    config: S3Config = {"region": settings.s3_region, "checksum_algorithm": "SHA256"}
    if settings.s3_endpoint is not None:
        config["endpoint"] = settings.s3_endpoint
    if settings.s3_access_key_id and settings.s3_secret_access_key:
        config["access_key_id"] = settings.s3_access_key_id.get_secret_value()
        config["secret_access_key"] = settings.s3_secret_access_key.get_secret_value()
    if settings.s3_encryption is not None:
        config["server_side_encryption"] = settings.s3_encryption
    if settings.s3_kms_key_id is not None:
        config["sse_kms_key_id"] = settings.s3_kms_key_id
    return S3Store(
        name,
        prefix=settings.s3_prefix or None,
        config=config,
        client_options={
            "timeout": _WHOLE_TRANSFER,
            "read_timeout": _SILENCE,
            "allow_http": settings.s3_is_plain,
        },
        retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRIED_FOR},
    )
