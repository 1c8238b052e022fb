"""`polyplane models`: language models on this machine."""

from importlib.util import find_spec
from typing import Annotated

import typer

from services.cli.terminal import console, errors
from services.embedded.home import locate

app = typer.Typer(
    help="Language models on this machine.", no_args_is_help=True, add_completion=False
)

_DEFAULT = "Qwen/Qwen3-1.7B"
_FILES = ("*.safetensors", "*.json", "*.txt", "*.jinja", "LICENSE*")
_INSTALL = "make setup EXTRAS=qwen"


@app.callback()
def _models() -> None:
    """Language models on this machine."""


@app.command()
def pull(
    model: Annotated[str, typer.Argument(help="Name on the model hub.")] = _DEFAULT,
) -> None:
    """Download a model's weights, where SERVING_MODELS_DIR and `up` look for them.

    Qwen/Qwen3-1.7B is about 4 GB; on machines without a graphics card Qwen/Qwen3-0.6B (1.5 GB) is
    three times as fast.
    """
    if not _can_run_models():
        errors.print(f"Running models needs the extra qwen: run `{_INSTALL}`, then this again.")
        raise typer.Exit(2)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    folder = locate().models / model
    console.print(f"Downloading {model} to {folder}")
    try:
        snapshot_download(  # nosec B615 (the operator names the model; weights only, no code)
            model, local_dir=folder, allow_patterns=list(_FILES)
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        errors.print(f"{model} cannot be downloaded: {error}", markup=False)
        raise typer.Exit(1) from error
    console.print(f"Restart to use it: polyplane down && SERVING_QWEN_MODEL={model} polyplane up")


def _can_run_models() -> bool:
    return find_spec("transformers") is not None and find_spec("torch") is not None
