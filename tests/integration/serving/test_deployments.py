"""The ingress as Serve builds it, in Serve's local testing mode: no cluster, no sockets."""

from collections.abc import AsyncGenerator, Mapping

import pytest
from ray import serve
from ray.serve.exceptions import RayServeException

from planes.serving.deployments.embedder import Call
from planes.serving.deployments.generator import RemoteGenerator
from planes.serving.deployments.ingress import embedding_by
from planes.shared.domain import ChatMode, new_id
from planes.shared.embedding import MiniLMEmbedder, Vectors
from planes.shared.embedding_models import MODEL_NAME, WeightsError
from planes.shared.errors import Unavailable
from planes.shared.ports import Generated, Prompt

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::ResourceWarning:ray"),
]


@serve.deployment
class LocalEmbedder:
    """An embedder that fails as Serve does where there are no texts."""

    def __init__(self) -> None:
        self._embedder = MiniLMEmbedder()

    async def embed(self, call: Call) -> Vectors | WeightsError:
        texts, model = call
        if model != MODEL_NAME:
            return WeightsError(f"there is no {model}")
        if not texts:
            raise RayServeException("no replica")
        return self._embedder.embed(texts)


@serve.deployment
class FailingModel:
    """A language model whose replicas cannot be reached."""

    async def check(self) -> None:
        raise RayServeException("no replica")

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Generated, None]:
        yield Generated(prompt.question, 1, 1)
        raise RayServeException("no replica")


async def test_a_language_model_without_replicas_is_unavailable() -> None:
    handle = serve.run(FailingModel.bind(), name="failing", _local_testing_mode=True)
    generator = RemoteGenerator(handle, model="qwen")
    with pytest.raises(Unavailable, match="language model"):
        await generator.check()
    prompt = Prompt("Why?", "Why?", ChatMode.OPEN, (), (), 100, 10, conversation_id=new_id())
    answer = generator.generate(prompt)
    assert (await anext(answer)).text == "Why?"
    with pytest.raises(Unavailable, match="language model"):
        await anext(answer)


async def test_the_ingress_embeds_through_a_handle_and_translates_its_failures(
    database_urls: Mapping[str, str],
) -> None:
    del database_urls
    handle = serve.run(LocalEmbedder.bind(), _local_testing_mode=True)
    embed = embedding_by(handle)(MODEL_NAME)
    assert (await embed(["a harbour", "a bridge"])).shape == (2, 384)
    with pytest.raises(Unavailable, match="embedder"):
        await embed([])
    assert (await embed(["a harbour"] * 130)).shape == (130, 384)  # in more calls than one
    with pytest.raises(Unavailable, match="not there"):
        await embedding_by(handle)("some/model")(["a harbour"])
