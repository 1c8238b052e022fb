"""One part's life: started when what it needs is ready, started again when it dies."""

import asyncio
import contextlib
import logging
import os
import subprocess
import time
from collections.abc import Callable

from services.embedded.accounts import identity
from services.embedded.home import Home
from services.embedded.logs import RotatingLog
from services.embedded.parts import Part, Readiness
from services.embedded.processes import end_all, end_with_parent
from services.embedded.state import PartCondition, PartState

_log = logging.getLogger(__name__)

_FIRST_BACKOFF_S = 1.0
_LONGEST_BACKOFF_S = 30.0
_STEADY_S = 60.0
_STARTING_POLL_S = 0.1
_READY_POLL_S = 10.0
_TROUBLED_POLL_S = 1.0


class PartRunner:
    """Runs one part until it is told to stop."""

    def __init__(self, part: Part, home: Home, changed: Callable[[], None]) -> None:
        """Store what to run; `run` starts it.

        Args:
            part: What to run.
            home: Whose logs it writes to.
            changed: Called after each change of `state`.
        """
        self.part = part
        self.state = PartState(name=part.name)
        self.is_ready = asyncio.Event()
        self._home = home
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._log_copies: set[asyncio.Task[None]] = set()

    async def run(self, needs: list["PartRunner"]) -> None:
        """Run the part; returns when it is done, if it is one that ends, else never."""
        for needed in needs:
            await needed.is_ready.wait()
        backoff_s = _FIRST_BACKOFF_S
        while not self._stopping:
            began = time.monotonic()
            ending = await self._run_once()
            if self._stopping:
                return
            if ending == "ended with code 0" and self.part.is_ready is None:
                self.is_ready.set()
                self._set("done")
                return
            if time.monotonic() - began > _STEADY_S:
                backoff_s = _FIRST_BACKOFF_S
            self.state.restarts += 1
            self._set("restarting", f"{ending}; starts again in {backoff_s:.0f} s")
            _log.warning("%s %s", self.part.name, ending)
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, _LONGEST_BACKOFF_S)

    async def stop(self) -> None:
        """Ask the process to end, kill it after its deadline, and end what it leaves behind."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            self._set("stopping")
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(self.part.stop_signal)
            try:
                async with asyncio.timeout(self.part.stop_s):
                    await process.wait()
            except TimeoutError:
                _log.warning("%s does not end in %s s: killed", self.part.name, self.part.stop_s)
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        await end_all(self._home, self.part.name)
        if self._log_copies:
            await asyncio.wait(self._log_copies, timeout=1)
        self.state.pid = None
        self._set("stopped")

    async def _run_once(self) -> str:
        """Run the process to its end, and say how it ended."""
        try:
            # Whatever an earlier process of this part left behind holds its port or its files.
            await end_all(self._home, self.part.name)
            process = await self._start()
        except (OSError, TimeoutError, subprocess.SubprocessError) as error:
            return f"cannot be started: {error}"
        try:
            async with asyncio.TaskGroup() as group:  # watching must not fail unseen
                watching = group.create_task(self._watch())
                code = await process.wait()
                watching.cancel()
        finally:
            self.state.pid = None
            self.is_ready.clear()
        return f"ended with code {code}"

    async def _start(self) -> asyncio.subprocess.Process:
        self.state.started_at, self.state.ready_after_s = time.time(), None
        # Not asyncio's own pipe: with that, a grandchild that holds it open hides the child's end.
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *self.part.command,
                env=dict(self.part.environment),
                cwd=self.part.folder,
                **identity(self.part.account),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,
                preexec_fn=end_with_parent(self.part.stop_signal),
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._log_copies.add(task := asyncio.create_task(self._copy_log(reading)))
        task.add_done_callback(self._log_copies.discard)
        self._process, self.state.pid = process, process.pid
        self._set("starting")
        return process

    async def _copy_log(self, descriptor: int) -> None:
        """Copy what the part writes, until the last process that holds the pipe has ended."""
        stream = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(descriptor, "rb", buffering=0)
        )
        try:
            await RotatingLog(self._home.logs / f"{self.part.name}.log").copy_from(stream)
        finally:
            transport.close()

    async def _watch(self) -> None:
        if self.part.is_ready is None:
            return
        await self._until_ready(self.part.is_ready)
        while True:
            is_well = self.state.condition == "ready"
            await asyncio.sleep(_READY_POLL_S if is_well else _TROUBLED_POLL_S)
            answers = await self._answers(self.part.is_ready)
            if self._stopping:
                return
            condition: PartCondition = "ready" if answers else "not answering"
            if condition != self.state.condition:
                self._set(condition, self.state.detail if condition != "ready" else None)

    async def _until_ready(self, is_ready: Readiness) -> None:
        began = time.monotonic()
        while not await self._answers(is_ready):  # noqa: ASYNC110 - no event of another process
            await asyncio.sleep(_STARTING_POLL_S)
        self.state.ready_after_s = round(time.monotonic() - began, 2)
        self.is_ready.set()
        self._set("ready")

    async def _answers(self, is_ready: Readiness) -> bool:
        """Ask; whatever goes wrong in asking is no answer, and its reason is shown."""
        try:
            return await is_ready()
        except Exception as error:  # clients of four protocols; a watch that dies sees nothing more
            detail = f"{type(error).__name__}: {error}"
            if detail != self.state.detail:
                _log.warning("asking %s fails: %s", self.part.name, detail)
                self._set(self.state.condition, detail)
            return False

    def _set(self, condition: PartCondition, detail: str | None = None) -> None:
        self.state.condition, self.state.detail = condition, detail
        self._changed()
