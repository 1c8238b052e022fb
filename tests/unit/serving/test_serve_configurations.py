"""What clusters deploy fits Serve's own schema, and the application that it names."""

from importlib import import_module
from pathlib import Path

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from planes.serving.app import build
from planes.serving.settings import ServingSettings

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
    assert ingress.max_queued_requests == 500
