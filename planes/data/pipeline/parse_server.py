"""The process that parses: every file in a forked child with limits, parsers imported beforehand.

A request on standard input is two frames: the limits and the media type as JSON, and the file. A
reply is one frame of JSON: the text and its spans, or `rejected`, `too_complex`, or `died` with the
child's exit status. The process ends with its input.
"""

import encodings
import importlib
import os
import pkgutil
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable

import orjson
import py3langid

from planes.data.pipeline.confine import SystemCalls, give_up_rights, limit_use
from planes.data.pipeline.extracted import ExtractedText
from planes.data.pipeline.formats import docx, html, markdown, pdf, plain
from planes.data.pipeline.frames import read_frame, write_frame
from planes.shared.errors import DocumentRejected

_EXTRACTORS: dict[str, Callable[[bytes], ExtractedText]] = {
    module.MEDIA_TYPE: module.extract for module in (pdf, docx, html, markdown, plain)
}
_TOO_LONG = "The file holds more than {:,} characters of text. Split it into smaller files."
_FOREIGN_ENCODINGS = ("mbcs", "oem")  # Windows alone has them


def main() -> None:
    """Serve until standard input ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a parser prints must not get between the frames
    _import_all()
    calls = SystemCalls()
    while (head := read_frame(sys.stdin.buffer)) is not None:
        content = read_frame(sys.stdin.buffer)
        if content is None:
            return
        write_frame(replies, _parse_in_child(orjson.loads(head), content, calls))


def _import_all() -> None:
    """Import what parsers import while they work: the child that they work in may read no file."""
    py3langid.classify("")  # reads its model
    for module in pkgutil.iter_modules(encodings.__path__, "encodings."):
        if not module.name.endswith(_FOREIGN_ENCODINGS):
            importlib.import_module(module.name)


def _parse_in_child(request: dict[str, object], content: bytes, calls: SystemCalls) -> bytes:
    server = os.getpid()
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        _run_child(
            request,
            content,
            sender,
            confine=lambda: give_up_rights(calls, kept=(1, 2, sender), parent=server),
        )
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


def _run_child(
    request: dict[str, object], content: bytes, sender: int, *, confine: Callable[[], None]
) -> None:
    """Parse, write the reply and end this process, never returning to the server's loop."""
    status = 1
    try:
        limit_use(memory_bytes=int(str(request["memory_bytes"])), cpu_s=int(str(request["cpu_s"])))
        confine()
        text_chars = int(str(request["text_chars"]))
        reply = orjson.dumps(_parsed(str(request["media_type"]), content, text_chars))
        with os.fdopen(sender, "wb") as stream:
            stream.write(reply)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _parsed(media_type: str, content: bytes, text_chars: int) -> dict[str, object]:
    try:
        extracted = _EXTRACTORS[media_type](content)
    except DocumentRejected as error:
        return {"rejected": [error.code, error.detail]}
    except (MemoryError, RecursionError):
        return {"too_complex": True}
    if len(extracted.text) > text_chars:
        return {"rejected": ["too-complex", _TOO_LONG.format(text_chars)]}
    return {
        "text": extracted.text,
        "pages": [(span.page, span.start, span.end) for span in extracted.pages],
        "headings": [(span.level, span.start, span.end) for span in extracted.headings],
    }


if __name__ == "__main__":
    main()
