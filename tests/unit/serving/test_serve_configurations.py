"""What clusters deploy fits Serve's own schema, and the application that it names."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from planes.serving.app import build
from planes.serving.plane import build_plane
from planes.serving.settings import ServingSettings
from tests.fakes_serving import ScriptedGenerator

FOLDER = Path(__file__).parents[3] / "infra" / "serve"
REQUIRED = {"DATABASE_URL": "postgresql://x", "SERVING_TOKEN_SECRET": "s" * 32}


def deployments_of(settings: ServingSettings) -> dict[str, object]:
    """Every deployment of the application, by name."""
    found, left = {}, [build(settings)]
    while left:
        bound = left.pop()._bound_deployment
        found[bound.name] = bound
        left += [each for each in bound.init_args if hasattr(each, "_bound_deployment")]
    return found


@pytest.mark.parametrize("name", ["serve.yaml", "serve.local.yaml"])
def test_a_configuration_fits_serve_and_the_application(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in REQUIRED.items():
        monkeypatch.setenv(variable, value)
    content = yaml.safe_load((FOLDER / name).read_text())
    (application,) = ServeDeploySchema.model_validate(content).applications
    module, _, function = application.import_path.partition(":")
    built = getattr(import_module(module), function)({})
    assert built._bound_deployment.name == "Ingress"
    known = deployments_of(ServingSettings())
    assert {each.name for each in application.deployments} == set(known)


@pytest.mark.parametrize("replicas", [1, 3])
def test_replicas_come_and_go_only_where_more_than_one_is_allowed(
    replicas: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in (REQUIRED | {"SERVING_INGRESS_REPLICAS": str(replicas)}).items():
        monkeypatch.setenv(variable, value)
    ingress = deployments_of(ServingSettings())["Ingress"]._deployment_config  # type: ignore[attr-defined]
    autoscaling = ingress.autoscaling_config
    assert (autoscaling.max_replicas if autoscaling else 1) == replicas
    assert (autoscaling.min_replicas if autoscaling else 1) == min(2, replicas)
    assert ingress.max_queued_requests == 500


@pytest.mark.parametrize(
    ("changes", "answers"),
    [
        ({}, 16),
        ({"SERVING_QWEN_BATCH_SIZE": "8"}, 32),
        ({"SERVING_QWEN_GPUS": "1"}, 256),
        ({"SERVING_QWEN_GPUS": "1", "SERVING_QWEN_MAX_ANSWERS": "1000"}, 1000),
    ],
)
def test_a_language_model_takes_as_many_answers_as_it_can_write(
    changes: dict[str, str], answers: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.json").touch()
    (tmp_path / "model.safetensors").touch()
    monkeypatch.setattr("planes.serving.generation.qwen.is_installed", lambda: True)
    weights = {"SERVING_GENERATOR": "qwen", "SERVING_QWEN_MODEL": str(tmp_path)}
    for variable, value in (REQUIRED | weights | changes).items():
        monkeypatch.setenv(variable, value)
    settings = ServingSettings()
    model: Any = deployments_of(settings)["LanguageModel"]
    options = model._deployment_config
    assert options.max_queued_requests == answers
    # questions after its health find room beside the answers
    assert options.max_ongoing_requests == model.init_kwargs["options"].max_answers > answers
    assert options.graceful_shutdown_timeout_s > 60
    assert "ConsistentHashRouter" in str(options.request_router_config.request_router_class)
    plane = build_plane(settings, lambda _: embed, language_model=RemoteModel([]))
    assert plane.admission.max_answers == min(answers, 500)


class RemoteModel(ScriptedGenerator):
    """A model elsewhere."""

    async def check(self) -> None:
        """Be there."""


async def embed(texts: Sequence[str]) -> Any:
    raise AssertionError(texts)
