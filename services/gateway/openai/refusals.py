"""What is refused in words of OpenAI's API."""

from planes.shared.errors import NotFound


class ModelNotFound(NotFound):
    """A model that does not answer here."""

    code = "model-not-found"


def no_model(name: str) -> ModelNotFound:
    """Return the problem of a model that is not here, or not for this."""
    return ModelNotFound(
        f"There is no model '{name[:100]}' for this. GET /v1/models lists those that are here.",
        extensions={"param": "model"},
    )
