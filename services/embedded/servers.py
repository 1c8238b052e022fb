"""PostgreSQL and Redis of a platform: its own, or those of somebody else."""

from collections.abc import Mapping
from typing import Literal, Protocol

from services.embedded.parts import Part

Mode = Literal["embedded", "server"]
"""Whose servers a platform runs on: its own, or given ones."""

TAKE_OVER = "POLYPLANE_TAKE_OVER"
"""A variable of one start that says: whatever platform these given servers had is gone."""


class Servers(Protocol):
    """How the parts of a platform, and its operator's commands, reach PostgreSQL and Redis."""

    def prepare(self) -> None:
        """Write what has to be there before the parts start. Repeatable."""
        ...

    def parts(self) -> list[Part]:
        """Return the servers that this platform starts, in the order of their start."""
        ...

    def owner_url(self, database: str) -> str:
        """Return the address of a database for the owner of the schema."""
        ...

    def role_url(self, role: str) -> str:
        """Return the address of the database of a service role, or of Dagster's role."""
        ...

    def passwords(self) -> dict[str, str]:
        """Return the passwords of these roles by their names."""
        ...

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return an operator's variables such that they say where Redis and the files are."""
        ...
