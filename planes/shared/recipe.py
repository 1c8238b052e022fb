"""What a generation of the index can be made by."""

import re

from planes.shared.domain import IndexRecipe
from planes.shared.errors import InvalidInput

DIMENSIONS = {"sentence-transformers/all-MiniLM-L6-v2": 384}
"""Of the vectors of every embedder that there is an adapter for, by its name."""

_CHUNKER = re.compile(r"semchunk-([1-9]\d{0,3})")
_LEAST_TOKENS, _MOST_TOKENS = 64, 256


def check_recipe(recipe: IndexRecipe) -> None:
    """Refuse what no part of this version can make.

    Raises:
        InvalidInput: It says what is missing.
    """
    if recipe.embedder not in DIMENSIONS:
        raise InvalidInput(
            f"There is no adapter for the embedder {recipe.embedder!r}: this version embeds by "
            f"{', '.join(DIMENSIONS)} alone, through OpenVINO. Another model needs an adapter in "
            "planes/shared/embedding.py, in the data plane and in the serving plane."
        )
    size = _CHUNKER.fullmatch(recipe.chunker)
    if size is None or not _LEAST_TOKENS <= int(size[1]) <= _MOST_TOKENS:
        raise InvalidInput(
            f"There is no chunker {recipe.chunker!r}: it is `semchunk-` and the most tokens of a "
            f"chunk, {_LEAST_TOKENS} to {_MOST_TOKENS}, as in semchunk-128."
        )


def difference(live: IndexRecipe, configured: IndexRecipe) -> str | None:
    """Tell how the configured index differs from the live one, in a sentence; None: it does not.

    Raises:
        InvalidInput: Nothing can make the configured one.
    """
    check_recipe(configured)
    pairs = (
        ("embedder", live.embedder, configured.embedder),
        ("chunker", live.chunker, configured.chunker),
    )
    changes = [f"{what} {new} instead of {old}" for what, old, new in pairs if old != new]
    return f"The settings ask for {' and '.join(changes)}." if changes else None
