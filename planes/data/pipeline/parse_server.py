"""The process that parses: every file in a forked child with limits, parsers imported beforehand.

A request on standard input is two frames: the limits and the media type as JSON, and the file. A
reply is one frame: a line of JSON with the spans, and the text as UTF-8; or JSON alone: `rejected`,
`too_complex` with the limit that was exceeded, or `died` with the child's exit status. The process
ends with its input.
"""

import importlib
import os
import pkgutil
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import cache

import orjson

from planes.data.pipeline import formats
from planes.data.pipeline.confine import SystemCalls, give_up_rights, limit_use
from planes.data.pipeline.extracted import ExtractedText
from planes.data.pipeline.frames import read_frame, write_frame
from planes.shared.errors import DocumentRejected

Extractor = Callable[[bytes], ExtractedText]
_TOO_LONG = "The file holds more than {:,} characters of text. Split it into smaller files."


def main() -> None:
    """Serve until standard input ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a parser prints must not get between the frames
    _import_whole("encodings")
    calls = SystemCalls()
    while (head := read_frame(sys.stdin.buffer)) is not None:
        content = read_frame(sys.stdin.buffer)
        if content is None:
            return
        request = orjson.loads(head)
        extractor = _imported(request["media_type"], content)
        write_frame(replies, _parse_in_child(request, content, extractor, calls))


def _imported(media_type: str, content: bytes) -> Extractor:
    """Return a format's extractor, everything imported that it needs.

    The child that it works in may read no file.
    """
    name = formats.MODULES[media_type]
    extractor: Extractor = importlib.import_module(f"{formats.__name__}.{name}").extract
    for package in formats.IMPORTED_WHOLE.get(name, ()):
        _import_whole(package)
    if name == "pdf":
        importlib.import_module(f"{formats.__name__}.ocr").engine()
    if name in formats.IN_ANY_ENCODING and (
        name in formats.WITH_HIDDEN_ENCODINGS or not _is_utf8(content)
    ):
        _import_whole("charset_normalizer")
        importlib.import_module("py3langid").classify("")  # reads its model
    return extractor


@cache
def _import_whole(name: str) -> None:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        with suppress(ImportError):  # what needs Windows or another library
            importlib.import_module(module.name)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parse_in_child(
    request: dict[str, object], content: bytes, extractor: Extractor, calls: SystemCalls
) -> bytes:
    server = os.getpid()
    resident_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        _run_child(
            request,
            lambda: extractor(content),
            sender,
            confine=lambda: give_up_rights(calls, kept=(1, 2, sender), parent=server),
        )
    os.close(sender)
    reply = _read_until(receiver, time.monotonic() + float(str(request["wall_s"])))
    if reply is None:
        os.kill(child, signal.SIGKILL)
    _, status, use = os.wait4(child, 0)
    os.close(receiver)
    if reply and status == 0:
        return reply
    code = os.waitstatus_to_exitcode(status)
    if reply is None or -code == signal.SIGXCPU:
        return orjson.dumps({"too_complex": "time"})
    grown_bytes = (use.ru_maxrss << 10) - resident_bytes
    if -code == signal.SIGSEGV and grown_bytes > int(str(request["memory_bytes"])) // 2:
        return orjson.dumps({"too_complex": "memory"})  # native code that trusts every allocation
    return orjson.dumps({"died": code})


def _read_until(receiver: int, deadline: float) -> bytes | None:
    """Return all that arrives until the pipe closes, or None: time is up or nobody waits."""
    blocks: list[bytes] = []
    poll = select.poll()
    poll.register(receiver, select.POLLIN)
    poll.register(sys.stdin.fileno(), 0)  # only its hang-up
    while (left_s := deadline - time.monotonic()) > 0:
        ready = dict(poll.poll(left_s * 1000))
        if receiver in ready:
            block = os.read(receiver, 1 << 20)
            if not block:
                return b"".join(blocks)
            blocks.append(block)
        elif ready:
            return None
    return None


def _run_child(
    request: dict[str, object],
    extract: Callable[[], ExtractedText],
    sender: int,
    *,
    confine: Callable[[], object],
) -> None:
    """Parse, write the reply and end this process, never returning to the server's loop."""
    status = 1
    try:
        limit_use(memory_bytes=int(str(request["memory_bytes"])), cpu_s=int(str(request["cpu_s"])))
        confine()
        head, text = _parsed(extract, int(str(request["text_chars"])))
        with os.fdopen(sender, "wb") as stream:
            stream.write(orjson.dumps(head))
            if text is not None:  # not as JSON, whose encoder takes many times its size
                stream.write(b"\n" + text.encode())
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _parsed(
    extract: Callable[[], ExtractedText], text_chars: int
) -> tuple[dict[str, object], str | None]:
    """Return the head of the reply, and the text if there is one."""
    try:
        extracted = extract()
    except DocumentRejected as error:
        return {"rejected": [error.code, error.detail]}, None
    except RecursionError:
        return {"too_complex": "nesting"}, None
    except MemoryError:
        return {"too_complex": "memory"}, None
    if len(extracted.text) > text_chars:
        return {"rejected": ["too-complex", _TOO_LONG.format(text_chars)]}, None
    return extracted.spans(), extracted.text


if __name__ == "__main__":
    main()
