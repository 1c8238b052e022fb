"""Rotation of signing keys."""

import os
import stat
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.admin import app
from services.gateway.auth.key_rotation import rotate
from services.gateway.auth.keys import NoSigningKey, SigningKeys, load_keys


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    SigningKeys(tmp_path / "keys").open()
    return tmp_path / "keys"


def age(path: Path, seconds: float) -> None:
    """Make a file as old as this."""
    os.utime(path, (time.time() - seconds,) * 2)


def test_a_new_key_is_whole_private_and_signs_later(folder: Path) -> None:
    age(folder / "first.pem", 3600)
    (old,) = load_keys(folder)
    rotation = rotate(folder)
    assert rotation.removed == ()
    assert 55 < rotation.signs_at - time.time() <= 60
    (path,) = set(load_keys(folder)) - {old}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(p.name for p in folder.iterdir()) == sorted([old.name, path.name])
    keys = SigningKeys(folder)
    keys.open()
    assert keys.current().id == load_keys(folder)[old].id
    age(path, 61)
    keys.open()
    assert keys.current().id == rotation.key_id


def test_a_key_is_removed_once_none_of_its_tokens_can_be_alive(folder: Path) -> None:
    age(folder / "first.pem", 100_000)
    first = load_keys(folder)[folder / "first.pem"].id
    rotate(folder)
    (second,) = set(folder.iterdir()) - {folder / "first.pem"}
    # It signs a minute after it was written, and the first key's last token lives for 11 more.
    age(second, 60 + 660 + 10 - 5)
    assert rotate(folder).removed == ()
    age(second, 60 + 660 + 10 + 5)
    assert rotate(folder).removed == (first,)
    assert not (folder / "first.pem").exists()
    assert second.exists()


def test_a_folder_with_a_file_that_is_no_key_is_left_as_it_is(folder: Path) -> None:
    (folder / "broken.pem").write_text("-----BEGIN", "utf-8")
    with pytest.raises(NoSigningKey):
        rotate(folder)
    assert len(list(folder.iterdir())) == 2


def test_the_command_says_when_the_new_key_signs(folder: Path) -> None:
    answer = CliRunner().invoke(app, ["rotate-keys"], env={"GATEWAY_KEYS_DIR": str(folder)})
    assert answer.exit_code == 0, answer.output
    assert "It signs from" in answer.output
    assert len(load_keys(folder)) == 2


def test_the_command_needs_keys(tmp_path: Path) -> None:
    keys = {"GATEWAY_KEYS_DIR": str(tmp_path / "none")}
    assert CliRunner().invoke(app, ["rotate-keys"], env=keys).exit_code == 3
