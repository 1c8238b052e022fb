"""The one process that runs a home's platform; `python -m services.embedded.supervisor`."""

import asyncio
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterable, Mapping
from itertools import groupby

from planes.shared.settings import SettingsWrong
from planes.shared.telemetry import configure_logging
from services.embedded.binaries import BinaryMissing
from services.embedded.given_servers import require_given
from services.embedded.home import Home, locate
from services.embedded.installation import Installation
from services.embedded.marks import HomeRefused
from services.embedded.parts import Part, check_settings
from services.embedded.platform import platform_parts, prepare
from services.embedded.ports import PortChoice, PortTaken, choose, claim
from services.embedded.processes import (
    INSTANCE_VARIABLE,
    PART_VARIABLE,
    end_all,
    end_with_parent,
    python_module,
)
from services.embedded.remembered import check_mode, remember
from services.embedded.runner import PartRunner
from services.embedded.settings import EmbeddedSettings
from services.embedded.state import (
    AlreadyRunning,
    Phase,
    PlatformState,
    supervisor_lock,
    write_state,
)

_log = logging.getLogger(__name__)

_PORTS_FREED_S = 2.0  # by processes that have just been killed

LEAST_FREE_BYTES = 2 * 1000**3
"""Below this the platform refuses to start: PostgreSQL must never meet a full disk."""


class DiskFull(RuntimeError):
    """There is too little room to start."""


class ServersRefused(RuntimeError):
    """The given servers cannot be used now."""


class Supervisor:
    """Starts the parts of a home, keeps them running, and stops them."""

    def __init__(self, home: Home, environment: Mapping[str, str]) -> None:
        """Store what to run.

        Args:
            home: Must exist, and be held by this process.
            environment: The operator's, of which each part gets its own.
        """
        self._home = home
        self._environment = environment
        self._state = PlatformState(pid=os.getpid(), started_at=time.time())
        self._runners: list[PartRunner] = []
        self._claimed: socket.socket | None = None

    async def run(self) -> None:
        """Run everything until SIGTERM or SIGINT.

        Raises:
            DiskFull, PortTaken, BinaryMissing, HomeRefused, ServersRefused, SettingsWrong: It
                cannot start.
            Exception: The watch over a part failed; everything was stopped.
        """
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        self._save()
        await end_all(self._home)
        parts = self._install()
        if self._state.mode == "server":
            await self._check_servers(stopped)
        remember(self._home, self._state.mode, self._environment)
        self._runners = [PartRunner(part, self._home, self._save) for part in parts]
        self._save()
        by_name = {runner.part.name: runner for runner in self._runners}
        tasks = [
            asyncio.create_task(runner.run([by_name[name] for name in runner.part.needs]))
            for runner in self._runners
        ]
        try:
            await until_stopped(stopped, tasks)
        finally:
            await self._stop()
            for task in tasks:
                task.cancel()

    def fail(self, message: str) -> None:
        """Tell whoever waits why nothing starts."""
        self._state.message = message
        self._enter("failed")

    def _install(self) -> list[Part]:
        check_disk(self._home)
        settings = EmbeddedSettings.of(self._environment)
        check_mode(self._home, settings.mode)
        self._state.mode = settings.mode
        if settings.mode == "server":
            require_given(self._environment, self._home)
        choice = _choose_ports(settings)
        self._state.host, self._state.tls = settings.host, settings.tls_certificate is not None
        self._state.ports, self._state.notes = choice.ports, choice.notes
        if settings.gateways > 1:
            self._claimed = claim(settings.host, choice.ports["gateway"])
        installation = Installation(
            home=self._home,
            ports=choice.ports,
            secrets=self._home.secrets(),
            environment=self._environment,
            host=settings.host,
            tls=self._state.tls,
            gateway_shutdown_s=settings.gateway_shutdown_s,
            mode=settings.mode,
        )
        check_settings(platform_parts(installation))
        prepare(installation)
        return platform_parts(installation)  # by now it is known where PostgreSQL's data lies

    async def _check_servers(self, stopped: asyncio.Event) -> None:
        """Look at given servers in a process of its own, for as long as nobody stops us.

        Raises:
            ServersRefused: They cannot be used; the message says what to do about each.
        """
        marks = {"POLYPLANE_HOME": str(self._home.root), INSTANCE_VARIABLE: self._home.instance}
        process = await asyncio.create_subprocess_exec(
            *python_module("services.embedded.server_check"),
            env={**self._environment, **marks, PART_VARIABLE: "server-check"},
            cwd=self._home.run,
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=end_with_parent(signal.SIGTERM),
        )
        ended = asyncio.create_task(process.communicate())
        stopping = asyncio.create_task(stopped.wait())
        await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            process.kill()
        said, _ = await ended
        stopping.cancel()
        if stopped.is_set() or process.returncode:
            raise ServersRefused(said.decode("utf-8", "replace").strip() or "Stopped.")

    async def _stop(self) -> None:
        self._enter("stopping")
        runners = sorted(self._runners, key=lambda runner: runner.part.stop_order)
        for _, group in groupby(runners, key=lambda runner: runner.part.stop_order):
            endings = (runner.stop() for runner in group)
            for error in await asyncio.gather(*endings, return_exceptions=True):
                if error is not None:  # the later groups must be stopped all the same
                    _log.error("a part does not stop", exc_info=error)
        await end_all(self._home)

    def _enter(self, phase: Phase) -> None:
        self._state.phase = phase
        self._save()

    def _save(self) -> None:
        self._state.parts = [runner.state for runner in self._runners]
        complete = bool(self._runners) and all(runner.is_ready.is_set() for runner in self._runners)
        if self._state.phase == "starting" and complete:
            self._state.phase = "running"
        try:
            write_state(self._home, self._state)
        except OSError as error:  # a full disk must not end the supervision
            _log.warning("the state is not written: %s", error)


async def until_stopped(stopped: asyncio.Event, tasks: Iterable[asyncio.Task[None]]) -> None:
    """Wait until `stopped` is set; fail as soon as one of the tasks fails."""
    failures: list[BaseException] = []

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            failures.append(error)
            stopped.set()

    for task in tasks:
        task.add_done_callback(ended)
    await stopped.wait()
    if failures:
        raise failures[0]


def _choose_ports(settings: EmbeddedSettings) -> PortChoice:
    try:
        return choose(
            settings.ports(),
            host=settings.host,
            strict=settings.strict_ports,
            patience_s=_PORTS_FREED_S,
        )
    except OSError as error:
        reason = f"{settings.host} cannot be listened on: {error.strerror}"
        raise SettingsWrong(f"GATEWAY_HOST: {reason}") from error


def check_disk(home: Home) -> None:
    """Refuse to start on a nearly full disk.

    Raises:
        DiskFull: It says how much is free and how much is needed.
    """
    free = shutil.disk_usage(home.root).free
    if free < LEAST_FREE_BYTES:
        raise DiskFull(
            f"Only {free / 1e9:.1f} GB are free where {home.root} lies; "
            f"{LEAST_FREE_BYTES / 1e9:.0f} GB are needed."
        )


def main() -> int:
    """Run the supervisor of `POLYPLANE_HOME` in this process.

    Returns:
        0 after a stop, 1 when it cannot start, 3 when another one runs.
    """
    configure_logging("supervisor")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs each question for readiness
    home = locate()
    home.create()
    try:
        with supervisor_lock(home.lock_file):
            return _supervise(home)
    except AlreadyRunning:
        return 3


def _supervise(home: Home) -> int:
    supervisor = Supervisor(home, dict(os.environ))
    try:
        asyncio.run(supervisor.run())
    except SettingsWrong as error:
        supervisor.fail(f"These settings are wrong:\n{error}")
        return 1
    except (DiskFull, PortTaken, BinaryMissing, HomeRefused, ServersRefused) as error:
        supervisor.fail(str(error))
        return 1
    except Exception as error:
        _log.exception("the supervisor failed")
        supervisor.fail(f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
