"""The gateway's hot path, step by step."""

from tests.benchmarks.gateway.ladder import measure

__all__ = ["measure"]
