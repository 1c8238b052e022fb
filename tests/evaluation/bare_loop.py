"""What ingestion costs at the least: parse, split and embed in one loop, without a platform.

It embeds on all processors, as the platform does; processors that share a core or its caches cost
more seconds each than one alone.

    python -m tests.evaluation.bare_loop COUNT|FOLDER

takes generated texts, or the files below a folder, and prints one line of JSON. A process of its
own, so that its processor time is its own.
"""

import json
import mimetypes
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from semchunk import semchunk

from planes.data.pipeline.formats import MODULES
from planes.data.settings import available_processors
from planes.shared.embedding import MiniLMEmbedder, load_tokenizer
from planes.shared.errors import PlatformError
from tests.evaluation.texts import texts

_CHUNK_TOKENS = 254
_BATCH_TEXTS = 1000


@dataclass(frozen=True, slots=True)
class Bare:
    """A bare loop's cost; the model's loading is not in it."""

    documents: int
    chunks: int
    wall_s: float
    cpu_s: float

    @property
    def per_minute(self) -> float:
        """Documents a minute."""
        return 60 * self.documents / self.wall_s

    @property
    def cpu_ms(self) -> float:
        """Processor milliseconds a document."""
        return 1e3 * self.cpu_s / self.documents


def bare_loop(source: int | Path) -> Bare:
    """Run the loop over so many texts, or the files of a folder, in a process of its own."""
    command = [sys.executable, "-m", "tests.evaluation.bare_loop", str(source)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    return Bare(**json.loads(ended.stdout))


def _measure(files: list[tuple[str, bytes]]) -> Bare:
    tokenizer = load_tokenizer()
    embedder = MiniLMEmbedder(threads=available_processors())

    def length(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False))

    embedder.embed(["a first text, because the first inference is slower"])
    started, cpu = time.monotonic(), time.process_time()
    chunks: list[str] = []
    for media_type, content in files:
        text = _text(media_type, content)
        chunks += semchunk.chunk(text, _CHUNK_TOKENS, length, memoize=False, offsets=True)[0]
    chunks.sort(key=len)
    for first in range(0, len(chunks), _BATCH_TEXTS):
        embedder.embed(chunks[first : first + _BATCH_TEXTS])
    wall_s, cpu_s = time.monotonic() - started, time.process_time() - cpu
    return Bare(len(files), len(chunks), wall_s, cpu_s)


def _text(media_type: str, content: bytes) -> str:
    format_ = import_module(f"planes.data.pipeline.formats.{MODULES[media_type]}")
    try:
        return str(format_.extract(content).text)
    except PlatformError as error:  # as the platform, which fails such a file
        print(error, file=sys.stderr)
        return ""


def _files(source: str) -> list[tuple[str, bytes]]:
    if source.isdecimal():
        return [("text/plain", text) for text in texts(int(source))]
    mimetypes.add_type("text/markdown", ".md")
    typed = ((mimetypes.guess_type(path)[0], path) for path in sorted(Path(source).rglob("*.*")))
    return [(kind, path.read_bytes()) for kind, path in typed if kind in MODULES]


if __name__ == "__main__":
    measured = _measure(_files(sys.argv[1]))
    facts = {name: getattr(measured, name) for name in Bare.__slots__}
    print(json.dumps(facts))
