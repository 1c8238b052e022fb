"""Settings of MongoDB: where it is, and that the way there is encrypted."""

import pytest

from planes.shared.settings import SettingsWrong
from planes.shared.stores.mongo_settings import MongoSettings


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://127.0.0.1:27017",
        "mongodb://user:p%40ss@localhost/polyplane",
        "mongodb://[::1]:27017",
        "mongodb+srv://user:pass@cluster.example.net/?retryWrites=true",
        "mongodb://one.example.net,two.example.net/?replicaSet=rs&tls=true",
        "mongodb://one.example.net/?ssl=true",
    ],
)
def test_an_address_on_this_machine_or_with_tls_is_taken(url: str) -> None:
    assert MongoSettings.of({"MONGO_URL": url}).mongo_url is not None


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://mongo.example.net",
        "mongodb://127.0.0.1,mongo.example.net/?replicaSet=rs",
        "mongodb+srv://cluster.example.net/?tls=false",
    ],
)
def test_another_machine_without_tls_wants_a_word(url: str) -> None:
    with pytest.raises(SettingsWrong, match="MONGO_ALLOW_PLAIN"):
        MongoSettings.of({"MONGO_URL": url})
    assert MongoSettings.of({"MONGO_URL": url, "MONGO_ALLOW_PLAIN": "true"}).mongo_is_plain


@pytest.mark.parametrize("url", ["http://127.0.0.1", "127.0.0.1:27017", "mongodb://"])
def test_what_is_no_address_of_mongodb_is_refused(url: str) -> None:
    with pytest.raises(SettingsWrong, match="MONGO_URL begins with"):
        MongoSettings.of({"MONGO_URL": url})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MONGO_NUM_CANDIDATES", "10001"),
        ("MONGO_HNSW_MAX_EDGES", "65"),
        ("MONGO_HNSW_EDGE_CANDIDATES", "99"),
        ("MONGO_QUANTIZATION", "float8"),
        ("MONGO_VECTORS", "text"),
    ],
)
def test_what_mongodb_does_not_take_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsWrong, match=name):
        MongoSettings.of({name: value})
