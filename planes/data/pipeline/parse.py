"""Files to text, in a process where a hostile file harms nobody else."""

import os
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from planes.data.pipeline.extracted import ExtractedText
from planes.data.pipeline.formats import MODULES
from planes.data.pipeline.frames import LENGTH, write_frame
from planes.shared.errors import DocumentRejected, Unavailable

_SERVER = (sys.executable, "-m", "planes.data.pipeline.parse_server")
_GRACE_S = 15  # the server's own deadline comes first; this one is for a server that hangs
_LIMIT_SIGNALS = {signal.SIGKILL, signal.SIGXCPU, signal.SIGABRT, signal.SIGTRAP, signal.SIGILL}
_TOO_COMPLEX = (
    "Reading the file takes more than {limit}. Split it into smaller files, or save it in a "
    "simpler format."
)
_CORRUPT = "The file is damaged or not of the type that its name says, so it cannot be read."
_NO_TEXT = (
    "The file holds no text that can be read. Scanned pages need text recognition (OCR) before the "
    "upload, or on this platform, whose operator can install the extra `ocr`."
)


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """What one file may cost; memory is growth of the address space."""

    memory_bytes: int = 512 << 20
    cpu_s: int = 30
    wall_s: float = 30.0
    text_chars: int = 20_000_000

    def named(self, exceeded: str) -> str:
        """Return a limit in words: `time`, `nesting`, and memory else."""
        if exceeded == "time":
            return f"{min(self.cpu_s, self.wall_s):g} seconds"
        if exceeded == "nesting":
            return "the allowed depth of nesting"
        return f"{self.memory_bytes >> 20} MB of memory"


class Parser:
    """Parses one file at a time in a server process of its own, started at the first file."""

    def __init__(self, limits: ParseLimits) -> None:
        """Store the limits of each file."""
        self._limits = limits
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the server without waiting for it."""
        self._started()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the server."""
        del kind, error, traceback
        self._stop()

    def parse(self, content: bytes, media_type: str) -> ExtractedText:
        """Return the text of a file.

        Raises:
            DocumentRejected: `encrypted`, `corrupt`, `no-text`, `too-complex` or `unsupported`.
            Unavailable: The server process failed; it is started anew for the next file.
        """
        if media_type not in MODULES:
            raise DocumentRejected("unsupported", f"Files of type {media_type} cannot be read.")
        limits = asdict(self._limits)
        try:
            reply = self._ask(orjson.dumps({"media_type": media_type, **limits}), content)
        except OSError as error:
            self._stop()
            raise Unavailable("The parser process ended unexpectedly.") from error
        extracted = _extracted(reply, self._limits)
        if not extracted.has_words:
            raise DocumentRejected("no-text", _NO_TEXT)
        return extracted

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._server is None or self._server.poll() is not None:
            environment = {
                "PATH": os.environ.get("PATH", os.defpath),
                "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
            }
            self._server = subprocess.Popen(  # noqa: S603 - our own program
                _SERVER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
            )
        return self._server

    def _ask(self, request: bytes, content: bytes) -> bytes:
        server = self._started()
        assert server.stdin is not None  # noqa: S101 - asked for with PIPE
        assert server.stdout is not None  # noqa: S101 - likewise
        write_frame(server.stdin, request)
        write_frame(server.stdin, content)
        deadline = time.monotonic() + self._limits.wall_s + _GRACE_S
        size = LENGTH.unpack(_read_exactly(server.stdout.fileno(), LENGTH.size, deadline))[0]
        return _read_exactly(server.stdout.fileno(), size, deadline)

    def _stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.kill()
            server.communicate()


def _read_exactly(descriptor: int, size: int, deadline: float) -> bytes:
    blocks: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while size > 0:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError("the parser process hangs")
            block = os.read(descriptor, min(size, 1 << 20))
            if not block:
                raise BrokenPipeError("the parser process ended")
            blocks.append(block)
            size -= len(block)
    return b"".join(blocks)


def _extracted(answer: bytes, limits: ParseLimits) -> ExtractedText:
    head, has_text, text = answer.partition(b"\n")
    reply: dict[str, Any] = orjson.loads(head)
    if has_text:
        return ExtractedText.of(text.decode(), reply)
    if "rejected" in reply:
        raise DocumentRejected(*reply["rejected"])
    if "too_complex" in reply or -int(reply["died"]) in _LIMIT_SIGNALS:
        limit = limits.named(str(reply.get("too_complex")))
        raise DocumentRejected("too-complex", _TOO_COMPLEX.format(limit=limit))
    raise DocumentRejected("corrupt", _CORRUPT)
