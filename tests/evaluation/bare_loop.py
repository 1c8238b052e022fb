"""What ingestion costs at the least: parse, split and embed in one loop, without a platform.

It embeds on all processors, as the platform does; processors that share a core or its caches cost
more seconds each than one alone.

    python -m tests.evaluation.bare_loop COUNT

prints one line of JSON. A process of its own, so that its processor time is its own.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass

from semchunk import semchunk

from planes.data.pipeline.formats import plain
from planes.data.settings import available_processors
from planes.shared.embedding import MiniLMEmbedder, load_tokenizer
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


def bare_loop(count: int) -> Bare:
    """Run the loop over `count` texts in a process of its own."""
    command = [sys.executable, "-m", "tests.evaluation.bare_loop", str(count)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    return Bare(**json.loads(ended.stdout))


def _measure(count: int) -> Bare:
    documents, tokenizer = texts(count), load_tokenizer()
    embedder = MiniLMEmbedder(threads=available_processors())

    def length(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False))

    embedder.embed(["a first text, because the first inference is slower"])
    started, cpu = time.monotonic(), time.process_time()
    chunks: list[str] = []
    for document in documents:
        text = plain.extract(document).text
        chunks += semchunk.chunk(text, _CHUNK_TOKENS, length, memoize=False, offsets=True)[0]
    chunks.sort(key=len)
    for first in range(0, len(chunks), _BATCH_TEXTS):
        embedder.embed(chunks[first : first + _BATCH_TEXTS])
    wall_s, cpu_s = time.monotonic() - started, time.process_time() - cpu
    return Bare(count, len(chunks), wall_s, cpu_s)


if __name__ == "__main__":
    measured = _measure(int(sys.argv[1]))
    facts = {name: getattr(measured, name) for name in Bare.__slots__}
    print(json.dumps(facts))
