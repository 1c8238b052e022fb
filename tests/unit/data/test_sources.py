"""What a scan finds new, and where it may look."""

import os
import subprocess
import time
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from planes.data.composition_sources import open_place
from planes.data.pipeline.source_copies import document_name
from planes.data.pipeline.source_places import FileChanged, FileUnreadable, FolderPlace, Found
from planes.data.pipeline.source_registry import KnownFile, WatchedSource
from planes.data.pipeline.sources import difference
from planes.data.settings import DataSettings
from planes.shared.errors import InvalidInput, Unavailable
from services.cli.source_desk import NewSource


def settings(tmp_path: Path, **values: object) -> DataSettings:
    return DataSettings(database_url="postgresql://x", objects_dir=tmp_path / "objects", **values)


def source(location: Path | str, kind: str = "folder") -> WatchedSource:
    return WatchedSource(uuid4(), uuid4(), kind, str(location), False, True)


def known(mark: str, *, missing: bool = False, due: bool = False, gone: bool = False) -> KnownFile:
    return KnownFile(mark, UUID(int=0), is_missing=missing, is_due=due, is_gone=gone)


def settle(path: Path) -> None:
    os.utime(path, (time.time() - 10,) * 2)


def test_new_changed_and_due_files_are_wanted_in_the_order_of_their_keys() -> None:
    listed = {key: Found(key, "now", 1) for key in ("new", "changed", "due", "same")}
    listed["young"] = Found("young", "now", 1, is_settled=False)
    before = {"changed": known("then"), "due": known("now", due=True), "same": known("now")}
    found = difference(listed, before)
    assert [one.key for one in found.wanted] == ["changed", "due", "new"]
    assert not difference({"same": listed["same"]}, {"same": known("now")})


def test_absent_files_vanish_and_come_back() -> None:
    before = {
        "vanished": known("a"),
        "missing": known("a", missing=True),
        "gone": known("a", missing=True, gone=True),
        "back": known("a", missing=True),
    }
    found = difference({"back": Found("back", "a", 1)}, before)
    assert (found.vanished, found.gone, found.returned) == (["vanished"], ["gone"], ["back"])


async def test_a_file_that_changes_while_it_is_read_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * (3 << 20))
    settle(path)
    place = FolderPlace(tmp_path)
    blocks = place.read((await place.list())["a.txt"])
    assert len(await anext(blocks)) == 1 << 20
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(FileChanged):
        async for _ in blocks:
            pass


async def test_a_link_put_in_the_way_is_not_followed(tmp_path: Path) -> None:
    folder, secret = tmp_path / "watched" / "inner", tmp_path / "secret"
    for each in (folder, secret):
        each.mkdir(parents=True)
        (each / "a.txt").write_bytes(b"text")
        os.utime(each / "a.txt", (1, 1))
    place = FolderPlace(tmp_path / "watched")
    listed = await place.list()
    (folder / "a.txt").unlink()
    folder.rmdir()
    folder.symlink_to(secret)
    with pytest.raises((FileChanged, FileUnreadable)):
        await anext(place.read(listed["inner/a.txt"]))


async def test_no_depth_and_no_length_of_a_path_stops_the_listing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    at = os.open(root, os.O_RDONLY)
    for name in ("deep", *("d" * 500), *("e" * 900)):
        os.mkdir(name, dir_fd=at)
        inner = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
        os.close(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=at))
    os.close(at)
    files = await FolderPlace(root).list()
    subprocess.run(  # noqa: ASYNC221 (nothing else runs; it is too deep for `shutil.rmtree`)
        ["rm", "-r", root], check=True
    )
    assert max(map(len, files)) == 1024, "as long as a key of S3 may be"
    assert len(files) == 510


async def test_what_vanishes_while_a_folder_is_listed_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "stays.txt").write_text("words")
    look = os.scandir

    def look_late(folder: Path) -> object:
        if folder.name == "inner":
            folder.rmdir()
        return look(folder)

    monkeypatch.setattr(os, "scandir", look_late)
    assert list(await FolderPlace(tmp_path).list()) == ["stays.txt"]


async def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="No such file"):
        await FolderPlace(tmp_path / "nowhere").list()


@pytest.mark.parametrize("below", ["", "objects", "objects/inner", "link"])
def test_the_platforms_own_files_are_no_source(tmp_path: Path, below: str) -> None:
    (tmp_path / "objects").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "objects")
    with pytest.raises(InvalidInput, match="own files"):
        open_place(source(tmp_path / below), settings(tmp_path))


def test_a_documents_name_is_the_last_part_of_its_key() -> None:
    assert document_name("2026/reports/Spring\x07 report.md") == "Spring report.md"
    assert document_name("a" * 300 + ".pdf").endswith(".pdf")
    with pytest.raises(InvalidInput):
        document_name("folder/\u200b\x01")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"source_s3_access_key_id": "id"}, "DATA_SOURCE_S3_SECRET_ACCESS_KEY"),
        ({"source_s3_secret_access_key": "secret"}, "DATA_SOURCE_S3_ACCESS_KEY_ID"),
        ({"source_s3_endpoint": "http://s3.example.com"}, "DATA_SOURCE_S3_ALLOW_HTTP"),
        ({"source_s3_endpoint": "ftp://s3.example.com"}, "https://"),
        ({"timezone": "Europe/Atlantis"}, "time zone"),
    ],
)
def test_half_given_and_insecure_settings_are_refused(
    tmp_path: Path, values: dict[str, object], named: str
) -> None:
    with pytest.raises(ValidationError, match=named):
        settings(tmp_path, **values)


def test_an_object_store_of_this_machine_needs_no_tls(tmp_path: Path) -> None:
    assert settings(tmp_path, source_s3_endpoint="http://127.0.0.1:9000").source_s3_is_plain


@pytest.mark.parametrize(
    ("kind", "location", "tags", "is_flawed"),
    [
        ("folder", "/srv/reports", ("a",), False),
        ("folder", "reports", (), True),
        ("s3", "s3://bucket/prefix", (), False),
        ("s3", "s3://", (), True),
        ("s3", "https://bucket/prefix", (), True),
        ("folder", "/srv/reports", ("a" * 65,), True),
    ],
)
def test_a_flawed_source_is_refused_before_it_is_added(
    kind: str, location: str, tags: tuple[str, ...], is_flawed: bool
) -> None:
    new = NewSource(uuid4(), "ann@acme.test", kind, location, tags, False)
    assert (new.flaw is not None) == is_flawed
