"""Servers of a test's own, which it may kill, freeze and start again."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from services.embedded.accounts import Identity


class OwnServer:
    """One server process with its children.

    Attributes:
        address: Host and port, for servers that are waited for.
    """

    address: tuple[str, int]

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        log: Path,
        environment: dict[str, str],
        account: Identity | None = None,
    ) -> None:
        """Store how to start it."""
        self._command = list(command)
        self._folder = folder
        self._log = log
        self._environment = environment
        self._account = account or Identity()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The first process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it; do not wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                **self._account,
            )

    def has_ended(self) -> bool:
        """Whether it is not running."""
        return self._process is None or self._process.poll() is not None

    def wait_until_open(self) -> None:
        """Wait until it takes connections.

        Raises:
            TimeoutError: It does not within 30 s.
        """
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(self.address, 1):
                return
            time.sleep(0.05)
        raise TimeoutError(f"nothing listens at {self.address}; see {self._log}")

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the process and all its children, the parent first."""
        if self.has_ended():
            return
        parent = psutil.Process(self.pid)
        for process in [parent, *parent.children(recursive=True)]:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self.signal_all(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self.signal_all(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal_all(signal.SIGKILL)
        self._wait()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Let it go on, ask it to end, and return its exit status."""
        self.go_on()
        if not self.has_ended():
            os.kill(self.pid, number)
        return self._wait()

    def _wait(self) -> int:
        assert self._process is not None
        try:
            return self._process.wait(40)
        except subprocess.TimeoutExpired:
            self.signal_all(signal.SIGKILL)
            return self._process.wait()
