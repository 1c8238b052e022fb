"""Ends the processes of one run of the serving plane once its first process is gone.

It waits for the end of its standard input, which the first process holds open and the kernel closes
when that dies, however it dies. Runs as a script without site packages: standard library only.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_ROUNDS = 50
_PAUSE_S = 0.1


def start(variable: str) -> "subprocess.Popen[bytes]":
    """Start a reaper for this process group and the processes that carry our value of `variable`.

    The caller must lead its process group, so that nobody else's processes are in it.
    """
    mark = f"{variable}={os.environ[variable]}"
    environment = {name: value for name, value in os.environ.items() if name != variable}
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-I", "-S", __file__, str(os.getpid()), mark],
        stdin=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )


def lead_process_group() -> None:
    """Make this process the leader of its group, unless it is."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)


def members(leader: int, mark: str) -> list[int]:
    """Return the live processes of the group or with `mark` in their environment, less the leader.

    Ray's agents overwrite their environment, and its workers have groups of their own.
    """
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, group = (folder / "stat").read_text().rpartition(") ")[2].split()[:3]
            is_marked = mark.encode() in (folder / "environ").read_bytes().split(b"\0")
            if state != "Z" and (is_marked or group == str(leader)):
                found.append(int(folder.name))
    return [process_id for process_id in found if process_id != leader]


def main() -> None:
    """Wait, then kill until nobody is left: a dying Ray may still be starting processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leader, mark = int(sys.argv[1]), sys.argv[2]
    sys.stdin.buffer.read()
    for _ in range(_ROUNDS):
        found = members(leader, mark)
        if not found:
            return
        for process_id in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)
        time.sleep(_PAUSE_S)


if __name__ == "__main__":
    main()
