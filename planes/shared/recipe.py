"""What a generation of the index can be made by."""

import re
from pathlib import Path

from planes.shared.domain import IndexRecipe
from planes.shared.embedding_models import WeightsError, find_model
from planes.shared.errors import InvalidInput

_CHUNKER = re.compile(r"semchunk-([1-9]\d{0,3})")
_LEAST_TOKENS, _MOST_TOKENS = 64, 256


def check_recipe(recipe: IndexRecipe, models_dir: Path | None = None) -> None:
    """Refuse what cannot be made here.

    Args:
        recipe: Of an index.
        models_dir: Where folders of embedding models are.

    Raises:
        InvalidInput: It says what is missing.
    """
    dimension_of(recipe.embedder, models_dir)
    size = _CHUNKER.fullmatch(recipe.chunker)
    if size is None or not _LEAST_TOKENS <= int(size[1]) <= _MOST_TOKENS:
        raise InvalidInput(
            f"There is no chunker {recipe.chunker!r}: it is `semchunk-` and the most tokens of a "
            f"chunk, {_LEAST_TOKENS} to {_MOST_TOKENS}, as in semchunk-128."
        )


def dimension_of(embedder: str, models_dir: Path | None = None) -> int:
    """Return the dimension of a model's vectors.

    Raises:
        InvalidInput: The model is not on this machine, or of a kind that is not known.
    """
    try:
        return find_model(embedder, models_dir).shape.dimension
    except WeightsError as error:
        raise InvalidInput(str(error)) from error


def difference(
    live: IndexRecipe, configured: IndexRecipe, models_dir: Path | None = None
) -> str | None:
    """Tell how the configured index differs from the live one, in a sentence; None: it does not.

    Raises:
        InvalidInput: Nothing can make the configured one.
    """
    check_recipe(configured, models_dir)
    pairs = (
        ("embedder", live.embedder, configured.embedder),
        ("chunker", live.chunker, configured.chunker),
    )
    changes = [f"{what} {new} instead of {old}" for what, old, new in pairs if old != new]
    return f"The settings ask for {' and '.join(changes)}." if changes else None
