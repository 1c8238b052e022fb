"""The OpenAPI document: what the routes say, and the problem model that all of them share."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from services.gateway.openai.errors import add_openai_errors
from services.gateway.problems import add_problem_schema
from services.gateway.rights import add_rights

DESCRIPTION = """
Ask questions of your own documents. Answers come with citations that are checked before they are
sent, and every answer is metered to the token.

Sign up with `POST /auth/register`, send the `access_token` as `Authorization: Bearer …`, upload
with `POST /documents`, follow `GET /jobs/{id}` until all is ready, and ask with `POST /chat`.

Errors are problem details (RFC 9457). Every path except `/health`, `/.well-known` and `/v1` also
answers with the prefix `/api/v1`. Clients of OpenAI's API find it below `/v1`.
"""
TAGS = [
    {"name": "Identity", "description": "Accounts, sessions and keys."},
    {"name": "Tenant", "description": "Members, invitations, the audit log, export and deletion."},
    {"name": "Documents", "description": "Upload, follow, fetch, search and delete."},
    {"name": "Chat", "description": "Questions, answers and conversations."},
    {
        "name": "OpenAI",
        "description": "The same for clients of OpenAI's API; errors have its shape.",
    },
    {"name": "Billing", "description": "Usage, quotas and plans."},
    {"name": "Health", "description": "The state of the platform's parts."},
]


_EXAMPLES = {
    "uuid": "01a1fd26-1267-7285-bf84-61d8d204dc7a",
    "date-time": "2026-11-21T08:08:13.286Z",
    "date": "2026-11-21",
}


def _add_examples(schema: Any) -> None:
    """Give every id and time of a schema an example; the other fields have their own."""
    for each in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(each, dict) and each.get("format") in _EXAMPLES:
            each.setdefault("examples", [_EXAMPLES[each["format"]]])
        if isinstance(each, dict | list):
            _add_examples(each)


def operation_id(route: APIRoute) -> str:
    """Return the name that generated clients give to an operation: its function's name."""
    return route.name


def describe(app: FastAPI) -> None:
    """Make `app` serve the whole document."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=TAGS,
            )
            app.openapi_schema = add_problem_schema(document)
            _add_examples(document["components"]["schemas"])
            add_rights(document, app.routes)
            add_openai_errors(document)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
