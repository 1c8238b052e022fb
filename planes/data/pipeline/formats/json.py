"""JSON (RFC 8259) and JSON Lines: a line a value, `orders[3].customer.name: Ada`.

The path before each value says in every chunk what the value is. Numbers stay as written.
"""

import json
from collections.abc import Iterable, Iterator

from planes.data.pipeline.extracted import ExtractedText, TextBuilder, storable
from planes.data.pipeline.formats.plain import decode
from planes.shared.errors import DocumentRejected

MEDIA_TYPE = "application/json"
_MAX_DEPTH = 100
_MAX_PATH_CHARS = 200
_LIST_CHARS = 500  # a list of scalars up to this length stands in one line


class _Object(tuple[tuple[str, object], ...]):
    """The members in their order, those of the same name too, which a dict would lose."""

    __slots__ = ()


def extract(content: bytes) -> ExtractedText:
    """Return the values with their paths, a block a record.

    Raises:
        DocumentRejected: `corrupt`: not JSON; `too-complex`: nested more than 100 deep.
    """
    text = storable(decode(content))
    try:
        roots = [_parsed(text)]
    except json.JSONDecodeError as error:
        if text[: error.pos].count("\n") == 0 or error.msg != "Extra data":
            raise _corrupt(error.lineno, error.msg) from error
        roots = _records(text)
    return _extracted(roots)


def _extracted(roots: list[object]) -> ExtractedText:
    builder = TextBuilder()
    for number, root in enumerate(roots):
        path = f"[{number}]" if len(roots) > 1 else ""
        for block in _blocks(path, root):
            builder.add_block("\n".join(block))
    return builder.build()


def _records(text: str) -> list[object]:
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                records.append(_parsed(line))
            except json.JSONDecodeError as error:
                raise _corrupt(number, error.msg) from error
    return records


def _parsed(text: str) -> object:
    """Parse; RecursionError is told as too complex by whoever calls the format."""
    return json.loads(
        text, object_pairs_hook=_Object, parse_int=str, parse_float=str, parse_constant=str
    )


def _blocks(path: str, value: object, depth: int = 0) -> Iterator[Iterable[str]]:
    """Yield the lines of each record: an element of a list, or what stands outside of lists."""
    if isinstance(value, list) and not _is_short(value):
        for number, element in enumerate(value):
            yield from _blocks(f"{path}[{number}]", element, _deeper(depth))
        return
    lines: list[str] = []
    for step, member in value if isinstance(value, _Object) else [("", value)]:
        place = _joined(path, step)
        if isinstance(member, list) and not _is_short(member):
            yield lines
            lines = []
            yield from _blocks(place, member, _deeper(depth))
        else:
            lines += _lines(place, member, _deeper(depth))
    yield lines


def _lines(path: str, value: object, depth: int) -> Iterator[str]:
    if isinstance(value, _Object):
        for step, member in value:
            yield from _lines(_joined(path, step), member, _deeper(depth))
    elif isinstance(value, list) and not _is_short(value):
        for number, element in enumerate(value):
            yield from _lines(f"{path}[{number}]", element, _deeper(depth))
    elif shown := _shown(value):
        yield f"{path}: {shown}" if path else shown


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(filter(None, map(_shown, value)))
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value).strip()


def _is_short(values: list[object]) -> bool:
    """Whether a list holds scalars alone, and few characters."""
    if len(values) > _LIST_CHARS or any(isinstance(value, list | _Object) for value in values):
        return False
    return sum(len(_shown(value)) + 2 for value in values) <= _LIST_CHARS


def _joined(path: str, step: str) -> str:
    """Return the path to a member; of a very long one the end."""
    joined = f"{path}.{' '.join(step.split())}" if path and step else path or " ".join(step.split())
    return joined if len(joined) <= _MAX_PATH_CHARS else "…" + joined[-_MAX_PATH_CHARS:]


def _deeper(depth: int) -> int:
    if depth >= _MAX_DEPTH:
        detail = f"The file nests its values more than {_MAX_DEPTH} deep."
        raise DocumentRejected("too-complex", detail)
    return depth + 1


def _corrupt(line: int, message: str) -> DocumentRejected:
    return DocumentRejected("corrupt", f"The file is not valid JSON: line {line}: {message}.")
