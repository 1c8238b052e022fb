"""The language model as a deployment, and the generator that calls it from the ingress."""

from collections.abc import AsyncGenerator
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from planes.serving.deployments.loopback import listen_on_loopback
from planes.serving.generation.qwen import QwenGenerator
from planes.shared.errors import PlatformError, Unavailable
from planes.shared.ports import Generated, Prompt

_DOWN = "The language model does not answer. Try again."


@serve.deployment(max_ongoing_requests=16, ray_actor_options={"num_cpus": 0})
class LanguageModel:
    """One model in one replica."""

    def __init__(self, weights: str, *, model: str) -> None:
        """Load the weights."""
        listen_on_loopback()
        self._generator = QwenGenerator(weights, model=model)
        self._generator.load()

    async def check(self) -> None:
        """Return: a replica that runs this has its weights loaded."""

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Generated, None]:
        """Yield an answer; the caller's hang-up closes it."""
        async for piece in self._generator.generate(prompt):
            yield piece


class RemoteGenerator:
    """Writes answers with the `LanguageModel` deployment."""

    def __init__(self, handle: Any, *, model: str) -> None:
        """Store the deployment's handle."""
        self._checked = handle
        self._handle = handle.options(stream=True)
        self.model = model

    async def check(self) -> None:
        """Ask a replica whether it is there; the caller sets the deadline.

        Raises:
            Unavailable: None answers.
        """
        try:
            await self._checked.check.remote()
        except (RayError, RayServeException) as error:
            raise Unavailable(_DOWN) from error

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Generated, None]:
        """Yield the answer piece by piece; closing the iterator stops the work.

        Raises:
            PlatformError: As the deployment raised it.
            Unavailable: The deployment broke off.
        """
        answer = self._handle.generate.remote(prompt)
        try:
            async for piece in answer:
                yield piece
        except PlatformError:
            raise
        except (RayError, RayServeException) as error:
            raise Unavailable(_DOWN) from error
        finally:
            answer.cancel()
