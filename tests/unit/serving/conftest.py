"""Ray Serve warns while it is imported, about its own use of pydantic; warnings fail our tests."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import ray.serve  # noqa: F401
