"""Processor time and peak memory of the data plane's processes on this machine."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

_EVERY_S = 0.25
_NAMES = {  # a word of the command line, and what the process is called here
    "parse_server": "parser",
    "multiprocessing": "run",
    "api grpc": "code server",
    "dagster._daemon": "daemon",
    "dagster_webserver": "web servers",
}


class DataPlane:
    """The code server with all its descendants, and Dagster's other processes, while entered."""

    def __init__(self, code_port: int) -> None:
        """Find the code server that listens on a port.

        Raises:
            SystemExit: There is none on this machine.
        """
        self._roots = [p for p in psutil.process_iter() if _is_root(p, str(code_port))]
        if not self._roots:
            raise SystemExit(f"No code server with port {code_port} runs on this machine.")
        self.peak_bytes: dict[str, int] = defaultdict(int)
        self._cpu_s: dict[tuple[int, float], tuple[str, float]] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at every process four times a second."""
        ended = threading.Event()
        before = self._total_s()

        def watch() -> None:
            while not ended.wait(_EVERY_S):
                self._look()

        self._look()
        self._first = dict(self._cpu_s)
        thread = threading.Thread(target=watch, name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self._look()
            self.total_s = self._total_s() - before

    def cpu_s(self) -> dict[str, float]:
        """Return the processor seconds by kind of process; what ran between two looks is missing.

        A parser's seconds hold those of the children that parsed.
        """
        sums: dict[str, float] = defaultdict(float)
        for key, (name, seconds) in self._cpu_s.items():
            sums[name] += seconds - self._first.get(key, (name, 0.0))[1]
        return dict(sums)

    def _total_s(self) -> float:
        """Return what the roots and all their ended and running descendants have used."""
        everyone = [p for root in self._roots for p in (root, *root.children(recursive=True))]
        return sum(_seconds(p, with_children=True) for p in everyone)

    def _look(self) -> None:
        for root in self._roots:
            for process in (root, *root.children(recursive=True)):
                try:
                    name = _name(process)
                    memory = process.memory_info().rss
                    key = (process.pid, process.create_time())
                except psutil.Error:  # it ended
                    continue
                seconds = _seconds(process, with_children=name == "parser")
                if name:
                    self.peak_bytes[name] = max(self.peak_bytes[name], memory)
                    self._cpu_s[key] = (name, seconds)


def _is_root(process: psutil.Process, code_port: str) -> bool:
    try:
        command = process.cmdline()
    except psutil.Error:
        return False
    return "grpc" in command and code_port in command


def _name(process: psutil.Process) -> str:
    command = " ".join(process.cmdline())
    return next((name for word, name in _NAMES.items() if word in command), "")


def _seconds(process: psutil.Process, *, with_children: bool) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    own = times.user + times.system
    return float(own + (times.children_user + times.children_system if with_children else 0.0))
