"""The process that parses: every file in a forked child with limits, parsers imported beforehand.

A request on standard input is two frames: the limits and the media type as JSON, and the file. A
reply is one frame of JSON: the text and its spans, or `rejected`, `too_complex`, or `died` with the
child's exit status. The process ends with its input.
"""

import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable

import orjson

from planes.data.pipeline.extracted import ExtractedText
from planes.data.pipeline.formats import docx, html, markdown, pdf, plain
from planes.data.pipeline.frames import read_frame, write_frame
from planes.shared.errors import DocumentRejected

_EXTRACTORS: dict[str, Callable[[bytes], ExtractedText]] = {
    module.MEDIA_TYPE: module.extract for module in (pdf, docx, html, markdown, plain)
}
_PAGE_BYTES = resource.getpagesize()


def main() -> None:
    """Serve until standard input ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a parser prints must not get between the frames
    while (head := read_frame(sys.stdin.buffer)) is not None:
        content = read_frame(sys.stdin.buffer)
        if content is None:
            return
        write_frame(replies, _parse_in_child(orjson.loads(head), content))


def _parse_in_child(request: dict[str, object], content: bytes) -> bytes:
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiver)
        _run_child(request, content, sender)
    os.close(sender)
    reply = _read_until(receiver, time.monotonic() + float(str(request["wall_s"])))
    if reply is None:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    os.close(receiver)
    if reply and status == 0:
        return reply
    return orjson.dumps({"died": os.waitstatus_to_exitcode(status)})


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


def _run_child(request: dict[str, object], content: bytes, sender: int) -> None:
    """Parse, write the reply and end this process, never returning to the server's loop."""
    status = 1
    try:
        _limit_self(int(str(request["memory_bytes"])), int(str(request["cpu_s"])))
        reply = orjson.dumps(_parsed(str(request["media_type"]), content))
        with os.fdopen(sender, "wb") as stream:
            stream.write(reply)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _limit_self(memory_bytes: int, cpu_s: int) -> None:
    """Bound further address space, processor time, and forbid files and core dumps."""
    with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123
        mapped_bytes = int(statm.read().split()[0]) * _PAGE_BYTES
    limit = mapped_bytes + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _parsed(media_type: str, content: bytes) -> dict[str, object]:
    try:
        extracted = _EXTRACTORS[media_type](content)
    except DocumentRejected as error:
        return {"rejected": [error.code, error.detail]}
    except (MemoryError, RecursionError):
        return {"too_complex": True}
    return {
        "text": extracted.text,
        "pages": [(span.page, span.start, span.end) for span in extracted.pages],
        "headings": [(span.level, span.start, span.end) for span in extracted.headings],
    }


if __name__ == "__main__":
    main()
