"""What the steps of a run share, from its first step to its last."""

import asyncio
import os
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg

from planes.data.pipeline.parse import Parser
from planes.data.settings import DataSettings
from planes.shared.telemetry import configure_logging

if TYPE_CHECKING:
    from planes.data.pipeline.ingestion import Ingestion

T = TypeVar("T")
_PARENT_CHECK_S = 1.0


class EventLoopThread:
    """An event loop beside the steps, so that leases are renewed while a step computes."""

    def __init__(self) -> None:
        """Store a new loop; `running` starts it."""
        self._loop = asyncio.new_event_loop()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the loop in a thread while entered."""
        thread = threading.Thread(target=self._loop.run_forever, name="ingestion", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the loop and return its result; an interrupt here cancels it there."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


@dataclass(frozen=True)
class IngestionRun:
    """The pipeline of one run, for steps that are not asynchronous."""

    pipeline: "Ingestion"
    settings: DataSettings
    loop: EventLoopThread


@dg.resource(description="The stores, the parser and the embedding model of one run.")
def ingestion_run(context: dg.InitResourceContext) -> Iterator[IngestionRun]:
    """Open everything at a run's start; at its end, give unfinished documents back and clean up."""
    if context.run is None:
        raise dg.DagsterInvariantViolationError("The resource `ingestion_run` belongs to a run.")
    settings, loop = DataSettings(), EventLoopThread()
    configure_logging("data", settings.log_level)
    os.nice(settings.nice)  # answers come first; the parser's process inherits it
    with Parser(settings.parse_limits()) as parser, loop.running(), ending_with_parent():
        # imported by runs alone, not by the code server, and while the parser's process starts
        from planes.data.composition import open_ingestion

        opened = open_ingestion(settings, context.run.run_id, parser)
        pipeline = loop.call(opened.__aenter__())
        try:
            yield IngestionRun(pipeline, settings, loop)
        finally:
            loop.call(opened.__aexit__(None, None, None))


@contextmanager
def ending_with_parent() -> Iterator[None]:
    """Interrupt this run when the code server that started it is gone."""
    parent, ended = os.getppid(), threading.Event()

    def watch() -> None:
        while not ended.wait(_PARENT_CHECK_S):
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
