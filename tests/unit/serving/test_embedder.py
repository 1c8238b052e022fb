import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import pytest

from planes.serving.deployments.embedder import embed_together
from planes.serving.deployments.embedding_queue import Call, EmbeddingQueue
from planes.shared.embedding import MiniLMEmbedder
from planes.shared.embedding_models import MODEL_NAME

Ask: TypeAlias = Callable[..., Awaitable[asyncio.Task[list[str]]]]

BATCH_TEXTS = 8
SENTENCES = ["a boat", "a bridge", "a heron"]


@pytest.fixture(scope="module")
def embedder() -> MiniLMEmbedder:
    return MiniLMEmbedder()


@dataclass
class Held:
    """Embeds nothing until it may; remembers the texts of each batch."""

    batches: list[list[list[str]]] = field(default_factory=list)
    may_go: threading.Event = field(default_factory=threading.Event)
    has_begun: threading.Event = field(default_factory=threading.Event)

    def embed(self, calls: Sequence[Call]) -> list[list[str]]:
        """Tell each call its own texts."""
        self.batches.append([list(texts) for texts, _ in calls])
        self.has_begun.set()
        assert self.may_go.wait(60)
        if any("" in texts for texts, _ in calls):
            raise ValueError("no text")
        return [list(texts) for texts, _ in calls]


@pytest.fixture
async def held() -> AsyncIterator[Held]:
    held = Held()
    yield held
    held.may_go.set()


@pytest.fixture
async def ask(held: Held) -> AsyncIterator[Ask]:
    """Ask a queue whose thread is busy with a first call, until `held.may_go` is set."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        queue = EmbeddingQueue[list[str]](held.embed, thread, batch_texts=BATCH_TEXTS)

        async def ask(*texts: str) -> asyncio.Task[list[str]]:
            task = asyncio.create_task(queue.embed((texts, MODEL_NAME)))
            assert await asyncio.to_thread(held.has_begun.wait, 60)
            return task

        await ask("first")
        yield ask
        held.may_go.set()


def test_each_request_gets_its_own_vectors_from_a_shared_inference(
    embedder: MiniLMEmbedder,
) -> None:
    requests = [["a harbour"], ["a bridge", "a ship at sea"], ["a harbour"]]
    shares = embed_together(embedder, requests)
    assert [share.shape for share in shares] == [(1, 384), (2, 384), (1, 384)]
    assert np.allclose(shares[0], shares[2], atol=1e-2)
    assert np.allclose(shares[1], embedder.embed(requests[1]), atol=2e-2)


async def test_calls_that_wait_together_are_embedded_together(held: Held, ask: Ask) -> None:
    asked = [await ask(f"question {n}") for n in range(BATCH_TEXTS + 2)]
    held.may_go.set()
    assert await asyncio.gather(*asked) == [[f"question {n}"] for n in range(BATCH_TEXTS + 2)]
    assert [len(batch) for batch in held.batches] == [1, BATCH_TEXTS, 2]


async def test_a_question_waits_for_no_more_than_the_batch_under_way(held: Held, ask: Ask) -> None:
    sentences = [await ask(*SENTENCES) for _ in range(20)]
    question = await ask("what do herons eat?")
    held.may_go.set()
    await asyncio.gather(question, *sentences)
    assert ["what do herons eat?"] in held.batches[1] + held.batches[2]
    assert max(sum(map(len, batch)) for batch in held.batches) <= BATCH_TEXTS


async def test_sentences_have_every_other_turn_where_questions_never_end(
    held: Held, ask: Ask
) -> None:
    asked = [await ask(f"question {n}") for n in range(10 * BATCH_TEXTS)]
    asked.append(await ask(*SENTENCES))
    held.may_go.set()
    await asyncio.gather(*asked)
    assert SENTENCES in held.batches[1] + held.batches[2]


async def test_what_nobody_waits_for_is_not_embedded(held: Held, ask: Ask) -> None:
    gone = [await ask(*SENTENCES) for _ in range(20)]
    question = await ask("what do herons eat?")
    for task in gone:
        task.cancel()
    await asyncio.wait(gone)
    held.may_go.set()
    await question
    await (await ask("still there?"))
    assert held.batches == [[["first"]], [["what do herons eat?"]], [["still there?"]]]


async def test_a_call_above_the_measure_is_a_batch_of_its_own(held: Held, ask: Ask) -> None:
    many = ["a boat"] * (BATCH_TEXTS + 1)
    asked = [await ask(*texts) for texts in (SENTENCES, many, SENTENCES)]
    held.may_go.set()
    assert await asyncio.gather(*asked) == [SENTENCES, many, SENTENCES]
    assert held.batches[1:] == [[SENTENCES], [many], [SENTENCES]]


async def test_an_error_is_that_of_its_batch_alone(held: Held, ask: Ask) -> None:
    failing, beside = await ask(""), await ask("a boat")
    held.may_go.set()
    for task in (failing, beside):
        with pytest.raises(ValueError, match="no text"):
            await task
    assert await (await ask("a heron")) == ["a heron"]
