from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from planes.serving.caches.sentences import SentenceVectors
from planes.serving.generation.choose import RefusedConfiguration
from planes.serving.retrieval import choose_reranker
from planes.serving.retrieval.choose_reranker import build_reranker
from planes.serving.retrieval.duplicates import Told
from planes.serving.retrieval.fusion import fuse
from planes.serving.retrieval.hybrid import EmbedOf
from planes.serving.retrieval.sentence_evidence import SentenceEvidence
from planes.serving.settings import ServingSettings
from planes.shared.domain import Chunk, Ranked, new_id
from tests.fakes_serving import TOKEN_SECRET, candidate, chunk

HERONS = np.array([1.0, 0.0], dtype=np.float32)
ABOUT_HERONS = "Boats lie in the harbour. A heron eats fish. Rain fell."


class Embedder:
    """Texts about herons point one way, all others another; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked.append(list(texts))
        rows = [(1.0, 0.0) if "heron" in text.lower() else (0.0, 1.0) for text in texts]
        return np.array(rows, dtype=np.float32)


def kept(embedder: Embedder) -> EmbedOf:
    """The embedder behind the cache of sentences, as the plane has it."""
    return partial(SentenceVectors(lambda _: embedder, max_bytes=1 << 20).of, model="any")


def pool(*texts: str) -> tuple[list[Ranked], list[Chunk]]:
    """A ranking whose arms favour the first, a little, and its chunks."""
    tenant = new_id()
    chunks = [chunk(text, tenant_id=tenant) for text in texts]
    return fuse([candidate(c, 0.5 - i / 100, 0.0) for i, c in enumerate(chunks)]), chunks


async def test_a_passage_with_the_closest_sentence_comes_first() -> None:
    ranked, read = pool("Boats lie in the harbour. Rain fell.", ABOUT_HERONS, "Snow fell.")
    reranked = await SentenceEvidence(kept(Embedder())).rerank(
        "What do herons eat?", HERONS, ranked, read
    )
    assert reranked[0].candidate.id == read[1].id
    assert {item.candidate.id for item in reranked} == {one.id for one in read}
    assert [item.score for item in reranked] == sorted((i.score for i in reranked), reverse=True)


async def test_a_sentence_is_embedded_once() -> None:
    embedder = Embedder()
    reranker = SentenceEvidence(kept(embedder))
    ranked, read = pool(ABOUT_HERONS, "Rain fell. Snow fell.")
    first = await reranker.rerank("What do herons eat?", HERONS, ranked, read)
    again = await reranker.rerank("Where do herons live?", HERONS, ranked, read)
    assert len(embedder.asked) == 1
    assert sorted(embedder.asked[0]) == sorted(set(embedder.asked[0]))
    assert [item.score for item in again] == pytest.approx([item.score for item in first])


async def test_tenants_share_no_vectors_of_sentences() -> None:
    embedder = Embedder()
    reranker = SentenceEvidence(kept(embedder))
    for _ in range(2):  # `pool` makes a tenant each time
        await reranker.rerank("What do herons eat?", HERONS, *pool(ABOUT_HERONS))
    assert len(embedder.asked) == 2


async def test_another_models_vectors_of_a_sentence_are_others() -> None:
    embedder, tenant = Embedder(), new_id()
    vectors = SentenceVectors(lambda _: embedder, max_bytes=1 << 20)
    for model in ("one", "other", "one"):
        await vectors.of(tenant, model)(["A heron eats fish."])
    assert len(embedder.asked) == 2


async def test_passages_without_a_sentence_keep_their_order() -> None:
    ranked, read = pool("--", "...")
    reranked = await SentenceEvidence(kept(Embedder())).rerank("what?", HERONS, ranked, read)
    assert reranked == ranked


def test_a_passage_that_a_better_one_holds_is_left_out() -> None:
    long = (
        "The heron stands in the shallow water of the old harbour and waits for fish to come near"
    )
    copy = long.upper() + "!"
    part = long[: long.index(" and waits")]
    other = long.replace("heron", "stork").replace("shallow", "deep").replace("fish", "frogs")
    told = Told()
    texts = (long, copy, part, other, "", "")
    assert [text for text in texts if told.is_news(text)] == [long, other, "", ""]


@pytest.mark.parametrize(("reranker", "kind"), [("sentences", SentenceEvidence), ("none", None)])
def test_the_setting_chooses_the_reranker(reranker: str, kind: type | None) -> None:
    built = build_reranker(settings(reranker), lambda *_: Embedder())("a-model")
    assert (built if kind is None else type(built)) is kind


def test_a_cross_encoder_without_its_extra_is_refused_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choose_reranker, "is_installed", lambda: False)
    with pytest.raises(RefusedConfiguration, match="make up EXTRAS=qwen"):
        build_reranker(settings("some/cross-encoder"), lambda *_: Embedder())


def settings(reranker: str) -> ServingSettings:
    return ServingSettings(
        database_url="postgresql://nowhere",  # type: ignore[arg-type]
        token_secret=TOKEN_SECRET,  # type: ignore[arg-type]
        reranker=reranker,
    )
