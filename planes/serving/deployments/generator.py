"""The language model as a deployment, and the generator that calls it from the ingress."""

from collections.abc import AsyncGenerator
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.config import RequestRouterConfig
from ray.serve.exceptions import BackPressureError, RayServeException

from planes.serving.deployments.loopback import listen_on_loopback_where_alone
from planes.serving.generation.qwen import QwenGenerator, QwenOptions
from planes.shared.errors import PlatformError, Unavailable
from planes.shared.ports import Generated, Prompt

_DOWN = "The language model does not answer. Try again."
_BUSY = "The language model is busy. Try again in a moment."
_ROUTER: Any = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"
_BY_CONVERSATION = RequestRouterConfig(request_router_class=_ROUTER)


@serve.deployment(
    ray_actor_options={"num_cpus": 0},
    # the same conversation finds the replica whose cache knows its beginning
    request_router_config=_BY_CONVERSATION,
)
class LanguageModel:
    """One model in one replica."""

    def __init__(self, weights: str, *, model: str, options: QwenOptions) -> None:
        """Load the weights."""
        listen_on_loopback_where_alone()
        self._generator = QwenGenerator(weights, model=model, options=options)
        self._generator.load()

    async def check(self) -> None:
        """Return where answers can be written.

        Raises:
            Unavailable: The writing thread has ended.
        """
        self._generator.check()

    async def check_health(self) -> None:
        """Let Serve replace a replica that cannot write answers any more."""
        self._generator.check()

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
            Unavailable: The deployment broke off, or has no room.
        """
        session = str(prompt.conversation_id or "")
        answer = self._handle.options(session_id=session).generate.remote(prompt)
        try:
            async for piece in answer:
                yield piece
        except PlatformError:
            raise
        except BackPressureError as error:
            raise Unavailable(_BUSY, retry_after_s=5) from error
        except (RayError, RayServeException) as error:
            raise Unavailable(_DOWN) from error
        finally:
            answer.cancel()
