"""What the OpenAPI document says of rights: read from each route's `Permission`, never repeated."""

from collections.abc import Iterator, Sequence
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.routing import BaseRoute

from services.gateway.auth.dependencies import Permission
from services.gateway.problems import problem_responses

_API_KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key of `POST /auth/api-keys`, within its scopes.",
}


def operations(routes: Sequence[BaseRoute]) -> Iterator[tuple[str, str, RouteContext]]:
    """Yield the method, the path and the route of every operation, hidden ones included."""
    for route in iter_route_contexts(routes):
        path = route.path_format or route.path
        for method in sorted(route.methods or ()):
            if path is not None:
                yield method, path, route


def permission_of(route: RouteContext) -> Permission | None:
    """Return who may call a route; None where everybody may."""
    dependant = getattr(route, "dependant", None)
    found = list(_permissions(dependant)) if isinstance(dependant, Dependant) else []
    return found[0] if found else None


def add_rights(document: dict[str, Any], routes: Sequence[BaseRoute]) -> None:
    """Say of each operation of a document who may call it, and how it answers who may not."""
    document["components"].setdefault("securitySchemes", {})["api_key"] = _API_KEY
    for method, path, route in operations(routes):
        operation = document["paths"].get(path, {}).get(method.lower())
        if operation is None:
            continue
        statuses = {400, 408, 413, 415} if "requestBody" in operation else set()
        permission = permission_of(route)
        if permission is not None:
            statuses |= {401, 403, 429, 503}
            _say_who(operation, permission)
        if statuses:
            _add_responses(operation, statuses)


def _permissions(dependant: Dependant) -> Iterator[Permission]:
    if isinstance(dependant.call, Permission):
        yield dependant.call
    for each in dependant.dependencies:
        yield from _permissions(each)


def _say_who(operation: dict[str, Any], permission: Permission) -> None:
    operation["x-required-role"] = permission.role.value
    takes_keys = permission.any_key or permission.scope is not None
    if takes_keys:
        operation["x-required-scope"] = "any" if permission.any_key else str(permission.scope)
        operation["security"] = [*operation["security"], {"api_key": []}]


def _add_responses(operation: dict[str, Any], statuses: set[int]) -> None:
    added = problem_responses(*statuses)
    for status in statuses:
        operation["responses"].setdefault(str(status), added[status])
