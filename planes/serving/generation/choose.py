"""Which generator runs, and why."""

import json
from dataclasses import dataclass
from pathlib import Path

from planes.serving.generation import qwen
from planes.serving.settings import ServingSettings
from planes.shared.wire import GeneratorStatus


class RefusedConfiguration(RuntimeError):
    """Settings that ask for what is not installed; the message says how to mend it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The generator that settings and disk call for; `weights` only where it is `qwen`."""

    status: GeneratorStatus
    weights: str | None = None


def choose(settings: ServingSettings) -> Choice:
    """Return the generator to run.

    `auto` takes `openai` where its address is set, `qwen` where its weights are on disk and its
    extra is installed, else `extractive`. Nothing is downloaded or loaded here.

    Raises:
        RefusedConfiguration: `qwen` is asked for, but its extra or its weights are absent.
    """
    kind = settings.generator
    if kind == "openai" or (kind == "auto" and settings.openai_base_url):
        how = "SERVING_GENERATOR=openai" if kind == "openai" else "SERVING_OPENAI_BASE_URL is set"
        return Choice(_status("openai", settings.openai_model or "", how))
    if kind == "qwen":
        return _asked_for_qwen(settings)
    if kind == "extractive":
        return Choice(_status("extractive", "extractive", "SERVING_GENERATOR=extractive"))
    weights = _weights(settings)
    if weights is not None and qwen.is_installed():
        return Choice(_status("qwen", _qwen_name(settings), f"weights at {weights}"), str(weights))
    missing = "the extra qwen is not installed" if weights else "no weights on disk"
    reason = f"SERVING_OPENAI_BASE_URL is not set, {missing}"
    return Choice(_status("extractive", "extractive", reason))


def _asked_for_qwen(settings: ServingSettings) -> Choice:
    if not qwen.is_installed():
        raise RefusedConfiguration(
            "SERVING_GENERATOR=qwen needs the extra `qwen`: run `make up EXTRAS=qwen`, or "
            "`polyplane models pull`."
        )
    weights = _weights(settings)
    if weights is None:
        raise RefusedConfiguration(
            f"There are no weights of {settings.qwen_model} on disk: run `polyplane models pull`, "
            "or set SERVING_QWEN_MODEL to the folder of a model."
        )
    return Choice(_status("qwen", _qwen_name(settings), "SERVING_GENERATOR=qwen"), str(weights))


def _weights(settings: ServingSettings) -> Path | None:
    """Return the folder that holds the model: as a path itself, or under SERVING_MODELS_DIR."""
    candidates = [Path(settings.qwen_model).expanduser()]
    if settings.models_dir is not None:
        candidates.append(settings.models_dir / settings.qwen_model)
    for folder in candidates:
        if (folder / "config.json").is_file() and _has_all_weights(folder):
            return folder
    return None


def _has_all_weights(folder: Path) -> bool:
    """Tell a whole model from one whose download was cut off: an index names all its files."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return (folder / "model.safetensors").is_file()
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError):  # the index itself was cut off
        return False
    return bool(names) and all((folder / str(name)).is_file() for name in names)


def _qwen_name(settings: ServingSettings) -> str:
    """Return the hub's name, or a folder's own name: callers need not know our paths."""
    folder = Path(settings.qwen_model).expanduser()
    return folder.name if folder.is_dir() else settings.qwen_model


def _status(kind: str, model: str, reason: str) -> GeneratorStatus:
    return GeneratorStatus.model_validate({"kind": kind, "model": model, "reason": reason})
