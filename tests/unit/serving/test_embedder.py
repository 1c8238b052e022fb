import numpy as np
import pytest

from planes.serving.deployments.embedder import embed_together, texts_of
from planes.shared.embedding import MiniLMEmbedder
from planes.shared.embedding_models import MODEL_NAME


@pytest.fixture(scope="module")
def embedder() -> MiniLMEmbedder:
    return MiniLMEmbedder()


def test_each_request_gets_its_own_vectors_from_a_shared_inference(
    embedder: MiniLMEmbedder,
) -> None:
    requests = [["a harbour"], ["a bridge", "a ship at sea"], ["a harbour"]]
    shares = embed_together(embedder, requests)
    assert [share.shape for share in shares] == [(1, 384), (2, 384), (1, 384)]
    assert np.allclose(shares[0], shares[2], atol=1e-2)
    assert np.allclose(shares[1], embedder.embed(requests[1]), atol=2e-2)


def test_a_batch_is_measured_by_its_texts() -> None:
    assert texts_of([(["a"], MODEL_NAME), (["b", "c"], "other")]) == 3
