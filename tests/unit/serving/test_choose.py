from pathlib import Path

import pytest
from pydantic import ValidationError

from planes.serving.generation import qwen
from planes.serving.generation.choose import RefusedConfiguration, choose
from planes.serving.settings import ServingSettings

REQUIRED = {"DATABASE_URL": "postgresql://x", "SERVING_TOKEN_SECRET": "s" * 32}


def settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> ServingSettings:
    for name, value in (REQUIRED | values).items():
        monkeypatch.setenv(name, value)
    return ServingSettings()


def weights(folder: Path) -> Path:
    model = folder / "Qwen" / "Qwen3-1.7B"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"")
    return model


def test_auto_without_anything_is_extractive_and_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    choice = choose(settings(monkeypatch, SERVING_MODELS_DIR=str(tmp_path)))
    assert choice.status.kind == choice.status.model == "extractive"
    assert "SERVING_OPENAI_BASE_URL is not set" in choice.status.reason


def test_auto_takes_a_server_whose_address_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    address = {"SERVING_OPENAI_BASE_URL": "http://x/v1", "SERVING_OPENAI_MODEL": "llama"}
    choice = choose(settings(monkeypatch, **address))
    assert (choice.status.kind, choice.status.model) == ("openai", "llama")


def test_auto_takes_qwen_where_weights_and_extra_are_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = weights(tmp_path)
    chosen = settings(monkeypatch, SERVING_MODELS_DIR=str(tmp_path))
    monkeypatch.setattr(qwen, "is_installed", lambda: False)
    assert "extra qwen" in choose(chosen).status.reason
    monkeypatch.setattr(qwen, "is_installed", lambda: True)
    choice = choose(chosen)
    assert (choice.status.kind, choice.weights) == ("qwen", str(model))


def test_weights_in_parts_count_once_all_that_their_index_names_are_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = weights(tmp_path)
    (model / "model.safetensors").rename(model / "a.safetensors")
    chosen = settings(monkeypatch, SERVING_MODELS_DIR=str(tmp_path))
    monkeypatch.setattr(qwen, "is_installed", lambda: True)
    assert "no weights" in choose(chosen).status.reason
    index = model / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}')
    assert "no weights" in choose(chosen).status.reason
    (model / "b.safetensors").touch()
    assert choose(chosen).weights == str(model)
    index.write_text('{"weight_map": {"x": "a.safe')
    assert "no weights" in choose(chosen).status.reason


def test_a_model_in_a_folder_is_called_by_the_folders_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chosen = settings(monkeypatch, SERVING_QWEN_MODEL=str(weights(tmp_path)))
    monkeypatch.setattr(qwen, "is_installed", lambda: True)
    assert choose(chosen).status.model == "Qwen3-1.7B"


def test_qwen_without_its_extra_is_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    weights(tmp_path)
    asked = {"SERVING_GENERATOR": "qwen", "SERVING_MODELS_DIR": str(tmp_path)}
    chosen = settings(monkeypatch, **asked)
    monkeypatch.setattr(qwen, "is_installed", lambda: False)
    with pytest.raises(RefusedConfiguration, match="make up EXTRAS=qwen"):
        choose(chosen)


def test_qwen_without_weights_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = {"SERVING_GENERATOR": "qwen", "SERVING_MODELS_DIR": str(tmp_path)}
    chosen = settings(monkeypatch, **asked)
    monkeypatch.setattr(qwen, "is_installed", lambda: True)
    with pytest.raises(RefusedConfiguration, match="polyplane models pull"):
        choose(chosen)


def test_openai_without_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="SERVING_OPENAI_BASE_URL"):
        settings(monkeypatch, SERVING_GENERATOR="openai")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"SERVING_OPENAI_MODEL": "llama"}, "SERVING_OPENAI_MODEL needs SERVING_OPENAI_BASE_URL"),
        ({"SERVING_OPENAI_API_KEY": "k"}, "SERVING_OPENAI_API_KEY needs SERVING_OPENAI_BASE_URL"),
        ({"SERVING_OPENAI_FALLBACKS": '[{"base_url": "http://y"}]'}, "base_url and model"),
        ({"SERVING_OPENAI_FALLBACKS": '[{"base_url": "http://y", "modle": "x"}]'}, "Extra inputs"),
        (
            {"SERVING_OPENAI_FALLBACKS": '[{"base_url": "http://y", "model": "x"}]'},
            "SERVING_OPENAI_FALLBACKS needs SERVING_OPENAI_BASE_URL",
        ),
    ],
)
def test_half_given_providers_are_refused(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        settings(monkeypatch, **given)
