"""Routers that are not searched for what they cannot have."""

from functools import cached_property

from fastapi import APIRouter
from starlette.routing import Match
from starlette.types import Scope


class PrefixRouter(APIRouter):
    """A router that is searched only for paths in which one of its routes' beginnings stands.

    FastAPI asks each included router, which tries all its routes, one regular expression after the
    other. Whether a path has "/billing" in it is cheaper to see. Where it stands does not matter,
    so that a router may be included under any prefix; whether a route fits is for FastAPI to say.

    All routes are there before the first request.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Say whether a route of this router answers a request."""
        path: str = scope["path"]
        for beginning in self._beginnings:
            if beginning in path:
                return super().matches(scope)
        return Match.NONE, {}

    @cached_property
    def _beginnings(self) -> tuple[str, ...]:
        """The parts of the routes' paths before their first parameter, without longer ones."""
        paths = (getattr(route, "path", self.prefix) for route in self.routes)
        found: list[str] = []
        for beginning in sorted({path.partition("{")[0] for path in paths}):
            if not any(each in beginning for each in found):
                found.append(beginning)
        return tuple(found)
