"""What is left to a process that reads a hostile file."""

import ctypes
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from planes.data.pipeline.confinement import confinement

PROBE = """
import os, resource, socket, sys
from planes.data.pipeline.confine import SystemCalls, give_up_rights
given_up = give_up_rights(SystemCalls(), kept=(0, 1, 2), parent=os.getppid())
def refused(action):
    try:
        action()
    except OSError:
        return True
    return False
def connect():
    with socket.socket() as client:
        client.connect(("127.0.0.1", int(sys.argv[1])))
print(os.geteuid() != 0, refused(os.fork), refused(lambda: open(sys.argv[2])),
      refused(lambda: os.fstat(int(sys.argv[3]))), refused(connect),
      refused(lambda: open(sys.argv[4])), refused(lambda: os.listdir("/")), given_up.files)
"""


def test_a_confined_process_is_nobody_and_reaches_nothing(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    inherited = os.open(os.devnull, os.O_RDONLY)
    with socket.create_server(("127.0.0.1", 0)) as server:
        public = "/etc/passwd"  # which any account can read
        arguments = [str(server.getsockname()[1]), str(secret), str(inherited), public]
        ended = subprocess.run(
            [sys.executable, "-c", PROBE, *arguments],
            capture_output=True,
            text=True,
            pass_fds=[inherited],
        )
    os.close(inherited)
    assert ended.returncode == 0, ended.stderr
    other_user, no_fork, no_secret, no_descriptor, no_network, *no_files = ended.stdout.split()
    assert len(set(no_files)) == 1, "files are out of reach where the kernel says so"
    assert no_descriptor == "True"
    if os.geteuid() == 0:  # any other user keeps its own files
        assert (other_user, no_fork, no_secret) == ("True", "True", "True")
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode == 0:
        assert no_network == "True"


def test_a_process_whose_parent_has_ended_does_not_go_on() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(
            [sys.executable, "-c", PROBE.replace("os.getppid()", "1 << 22")],
            capture_output=True,
            check=True,
        )


def test_what_the_kernel_takes_away_is_known_beforehand() -> None:
    given_up = confinement()
    assert given_up.user == (os.geteuid() == 0)
    version = ctypes.CDLL(None).syscall(444, None, 0, 1)  # Landlock's, asked as a flag
    assert given_up.files == (version > 0)
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode == 0:
        assert given_up.network
