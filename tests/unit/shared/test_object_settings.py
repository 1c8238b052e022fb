"""Where files are kept is said whole, or refused with what to set."""

import pytest

from planes.shared.settings import SettingsWrong
from planes.shared.stores.object_settings import ObjectStoreSettings, object_store
from planes.shared.stores.objects import FolderObjects
from planes.shared.stores.s3_objects import S3Objects

_KEYS = {"S3_ACCESS_KEY_ID": "an-id", "S3_SECRET_ACCESS_KEY": "a-secret"}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, "S3_BUCKET"),
        ({"S3_BUCKET": "b", "S3_ACCESS_KEY_ID": "an-id"}, "S3_SECRET_ACCESS_KEY"),
        ({"S3_BUCKET": "b", "S3_SECRET_ACCESS_KEY": "a-secret"}, "S3_ACCESS_KEY_ID"),
        ({"S3_BUCKET": "b", "S3_ENDPOINT": "http://s3.example.com"}, "S3_ALLOW_HTTP"),
        ({"S3_BUCKET": "b", "S3_ENDPOINT": "s3.example.com"}, "https://"),
        ({"S3_BUCKET": "b", "S3_KMS_KEY_ID": "key"}, "S3_ENCRYPTION"),
        ({"S3_BUCKET": "b", "S3_ENCRYPTION": "rot13"}, "AES256"),
    ],
)
def test_half_of_what_is_needed_is_refused(values: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsWrong, match=named) as refused:
        ObjectStoreSettings.of(values)
    assert "a-secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"OBJECTS_DIR": "/tmp/objects"}, FolderObjects),  # noqa: S108 (nothing is written)
        ({"S3_BUCKET": "b"}, S3Objects),
        ({"OBJECTS_DIR": "/tmp/objects", "S3_BUCKET": "b", **_KEYS}, S3Objects),  # noqa: S108
        ({"S3_BUCKET": "b", "S3_ENDPOINT": "http://127.0.0.1:9000", **_KEYS}, S3Objects),
        (
            {
                "S3_BUCKET": "b",
                "S3_ENDPOINT": "http://s3.internal",
                "S3_ALLOW_HTTP": "true",
                "S3_ENCRYPTION": "aws:kms",
                "S3_KMS_KEY_ID": "key",
            },
            S3Objects,
        ),
    ],
)
def test_a_bucket_wins_over_a_folder(values: dict[str, str], kind: type) -> None:
    assert isinstance(object_store(ObjectStoreSettings.of(values)), kind)
