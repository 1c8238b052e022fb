"""Started by Ray in HAProxy's place: ties it to loopback and to its parent, then becomes it.

Ray's configuration binds the statistics and the metrics to all interfaces, and HAProxy outlives a
Ray that is killed. The plane's own listener gets the address that the settings name.

It runs as a script without site packages, so it imports the standard library only.
"""

import ctypes
import os
import re
import signal
import sys
from pathlib import Path

_EVERYWHERE = re.compile(r"^(\s*bind\s+)\*?:(\d+)", re.MULTILINE)
_BIND = re.compile(r"^\s*bind\s+(\S+)", re.MULTILINE)
_LOCAL = re.compile(r"127\.0\.0\.1:|localhost:|/|unix@/")
_PR_SET_PDEATHSIG = 1


def loopback_only(configuration: str, plane: str) -> str:
    """Return a configuration whose listeners on all interfaces listen on 127.0.0.1.

    Args:
        configuration: HAProxy's.
        plane: `host:port` for the listener on loopback of the same port.

    Raises:
        ValueError: Another listener is still neither on loopback nor a Unix socket.
    """
    local = _EVERYWHERE.sub(r"\g<1>127.0.0.1:\2", configuration)
    for bind in _BIND.finditer(local):
        # HAProxy takes several addresses in one line, with commas between them.
        addresses = bind.group(1).split(",")
        if not all(_LOCAL.match(address) for address in addresses):
            raise ValueError(f"HAProxy would listen beyond loopback: {bind.group().strip()}")
    own = re.escape(f"127.0.0.1:{plane.rpartition(':')[2]}")
    return re.sub(rf"^(\s*bind\s+){own}(?!\d)", rf"\g<1>{plane}", local, flags=re.MULTILINE)


def main() -> None:
    """Become HAProxy: arguments are the plane's address, its program and its own arguments."""
    plane, program, *arguments = sys.argv[1:]
    path = Path(arguments[arguments.index("-f") + 1])
    path.write_text(loopback_only(path.read_text("utf-8"), plane), "utf-8")
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent has gone")
    os.execv(program, [program, *arguments])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
