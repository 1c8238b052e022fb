"""Who may do what: the one table that every operation of the API must stand in.

A route without a row here fails the build. To add one, write down the lowest role that may call
it, the scope that an API key needs, and a body that names each kind of thing whose id it takes.
"""

from dataclasses import dataclass
from typing import Any, Literal

from planes.shared.domain import Role
from services.gateway.auth.models import ApiScope
from tests.integration.gateway.conftest import PASSWORD

VIEWER, MEMBER, ADMIN, OWNER = Role.VIEWER, Role.MEMBER, Role.ADMIN, Role.OWNER
Scope = ApiScope | Literal["any"] | None


@dataclass(frozen=True)
class Expected:
    """What an operation expects of its caller.

    Attributes:
        role: The lowest role that may call; None where no credentials are needed.
        scope: What an API key needs; None keeps keys out.
        body: A JSON body; `$document` stands for the id of a document, and so on.
        form: A multipart body instead.
        query: Query parameters, with the same placeholders.
    """

    role: Role | None
    scope: Scope = None
    body: Any = None
    form: dict[str, str] | None = None
    query: dict[str, str] | None = None


SECRET = "0123456789abcdef0123456789abcdef"
KINDS = {
    "answer_id": "stream",
    "conversation_id": "conversation",
    "document_id": "document",
    "invitation_id": "invitation",
    "invoice_id": "invoice",
    "job_id": "job",
    "key_id": "api_key",
    "receipt": "receipt",
    "session_id": "session",
    "user_id": "member",
    "webhook_id": "webhook",
}
"""Which kind of thing a path parameter names."""

NAMES = {"model": "polyplane"}
"""Path parameters that name what belongs to nobody, and a value of each."""

PERSONAL = frozenset({"api_key", "conversation", "message", "session", "stream"})
"""Kinds that another member of the same tenant must not find either."""

ALIASES = {
    "POST /documents/upload": "POST /documents",
    "POST /documents/batch-upload": "POST /documents/batch",
    "HEAD /documents/{document_id}/content": "GET /documents/{document_id}/content",
    "GET /documents/list": "GET /documents",
    "GET /jobs/{job_id}/status": "GET /jobs/{job_id}",
    "POST /chat/message": "POST /chat",
}
"""Hidden names of operations."""

PAGES = frozenset({"/", "/openapi.json", "/docs", "/redoc"})
"""The documentation, which is public."""

TABLE: dict[str, Expected] = {
    "POST /auth/register": Expected(None, body={"email": "x", "password": "y"}),
    "POST /auth/login": Expected(
        None, body={"email": "a@example.com", "password": PASSWORD, "tenant_id": "$tenant"}
    ),
    "POST /auth/token": Expected(None),
    "POST /auth/refresh": Expected(None, body={"refresh_token": SECRET}),
    "POST /auth/logout": Expected(VIEWER, body={}),
    "GET /auth/me": Expected(VIEWER, "any"),
    "GET /auth/sessions": Expected(VIEWER),
    "DELETE /auth/sessions/{session_id}": Expected(VIEWER),
    "POST /auth/password": Expected(
        VIEWER, body={"current_password": PASSWORD, "new_password": PASSWORD + "!"}
    ),
    "POST /auth/password/forgot": Expected(None, body={"email": "nobody@example.com"}),
    "POST /auth/password/reset": Expected(
        None, body={"token": SECRET, "new_password": PASSWORD + "!"}
    ),
    "POST /auth/verify": Expected(None, body={"token": SECRET}),
    "GET /auth/oidc/login": Expected(None, query={"tenant_id": "$tenant"}),
    "GET /auth/oidc/callback": Expected(None),
    "POST /auth/oidc/token": Expected(None, body={"code": SECRET}),
    "POST /auth/switch": Expected(VIEWER, body={"tenant_id": "$tenant"}),
    "DELETE /auth/me": Expected(VIEWER, body={"password": PASSWORD}),
    "GET /auth/me/export": Expected(VIEWER),
    "POST /auth/api-keys": Expected(VIEWER, body={"name": "import", "scopes": ["search"]}),
    "GET /auth/api-keys": Expected(VIEWER),
    "DELETE /auth/api-keys/{key_id}": Expected(VIEWER),
    "GET /tenant": Expected(VIEWER, ApiScope.TENANT_READ),
    "PATCH /tenant": Expected(ADMIN, ApiScope.TENANT_WRITE, body={"name": "Renamed"}),
    "DELETE /tenant": Expected(OWNER),
    "GET /tenant/audit": Expected(OWNER),
    "GET /tenant/export": Expected(OWNER),
    "GET /tenant/receipts/{receipt}": Expected(None),
    "GET /tenant/members": Expected(VIEWER, ApiScope.TENANT_READ),
    "PATCH /tenant/members/{user_id}": Expected(
        ADMIN, ApiScope.TENANT_WRITE, body={"role": "viewer"}
    ),
    "DELETE /tenant/members/{user_id}": Expected(VIEWER, ApiScope.TENANT_WRITE),
    "POST /tenant/invitations": Expected(
        ADMIN, ApiScope.TENANT_WRITE, body={"email": "new@example.com", "role": "member"}
    ),
    "GET /tenant/invitations": Expected(ADMIN, ApiScope.TENANT_WRITE),
    "DELETE /tenant/invitations/{invitation_id}": Expected(ADMIN, ApiScope.TENANT_WRITE),
    "POST /tenant/invitations/accept": Expected(VIEWER, body={"token": SECRET}),
    "POST /documents": Expected(MEMBER, ApiScope.DOCUMENTS_WRITE, form={}),
    "POST /documents/batch": Expected(MEMBER, ApiScope.DOCUMENTS_WRITE, form={}),
    "POST /documents/url": Expected(
        MEMBER, ApiScope.DOCUMENTS_WRITE, body={"url": "http://10.0.0.1/a.txt"}
    ),
    "POST /ingest": Expected(
        MEMBER, ApiScope.DOCUMENTS_WRITE, body={"documents": [{"name": "a", "text": "b"}]}
    ),
    "PUT /documents/{document_id}/content": Expected(MEMBER, ApiScope.DOCUMENTS_WRITE, form={}),
    "PATCH /documents/{document_id}": Expected(
        MEMBER, ApiScope.DOCUMENTS_WRITE, body={"name": "renamed.md"}
    ),
    "GET /documents": Expected(VIEWER, ApiScope.DOCUMENTS_READ),
    "GET /documents/{document_id}": Expected(VIEWER, ApiScope.DOCUMENTS_READ),
    "DELETE /documents/{document_id}": Expected(MEMBER, ApiScope.DOCUMENTS_WRITE),
    "GET /documents/{document_id}/text": Expected(VIEWER, ApiScope.DOCUMENTS_READ),
    "GET /documents/{document_id}/content": Expected(VIEWER, ApiScope.DOCUMENTS_READ),
    "GET /documents/{document_id}/receipt": Expected(VIEWER, ApiScope.DOCUMENTS_READ),
    "GET /jobs/{job_id}": Expected(VIEWER, ApiScope.DOCUMENTS_READ),
    "GET /jobs/{job_id}/events": Expected(VIEWER, ApiScope.DOCUMENTS_READ),
    "POST /jobs/{job_id}/cancel": Expected(MEMBER, ApiScope.DOCUMENTS_WRITE),
    "POST /jobs/process-document": Expected(
        MEMBER, ApiScope.DOCUMENTS_WRITE, body={"document_id": "$document"}
    ),
    "POST /webhooks": Expected(
        ADMIN,
        ApiScope.TENANT_WRITE,
        body={"url": "http://127.0.0.1:9/", "events": ["document.ready"]},
    ),
    "GET /webhooks": Expected(ADMIN, ApiScope.TENANT_WRITE),
    "GET /webhooks/{webhook_id}": Expected(ADMIN, ApiScope.TENANT_WRITE),
    "DELETE /webhooks/{webhook_id}": Expected(ADMIN, ApiScope.TENANT_WRITE),
    "POST /webhooks/{webhook_id}/test": Expected(ADMIN, ApiScope.TENANT_WRITE),
    "POST /search": Expected(
        VIEWER, ApiScope.SEARCH, body={"query": "warranty", "document_ids": ["$document"]}
    ),
    "POST /chat": Expected(
        VIEWER, ApiScope.CHAT, body={"message": "Hello?", "conversation_id": "$conversation"}
    ),
    "GET /chat/streams/{answer_id}": Expected(VIEWER, ApiScope.CHAT),
    "DELETE /chat/streams/{answer_id}": Expected(VIEWER, ApiScope.CHAT),
    "POST /conversations": Expected(
        VIEWER, ApiScope.CHAT, body={"message": "Hello?", "document_ids": ["$document"]}
    ),
    "GET /conversations": Expected(VIEWER, ApiScope.CHAT),
    "GET /conversations/{conversation_id}": Expected(VIEWER, ApiScope.CHAT),
    "PATCH /conversations/{conversation_id}": Expected(
        VIEWER, ApiScope.CHAT, body={"title": "Mine", "document_ids": ["$document"]}
    ),
    "DELETE /conversations/{conversation_id}": Expected(VIEWER, ApiScope.CHAT),
    "GET /conversations/{conversation_id}/messages": Expected(VIEWER, ApiScope.CHAT),
    "POST /conversations/{conversation_id}/messages": Expected(
        VIEWER, ApiScope.CHAT, body={"message": "Hello?", "document_ids": ["$document"]}
    ),
    "POST /query": Expected(VIEWER, ApiScope.CHAT, body={"query": "Hello?"}),
    "POST /feedback": Expected(
        VIEWER, ApiScope.CHAT, body={"message_id": "$message", "rating": "up"}
    ),
    "GET /feedback": Expected(VIEWER, ApiScope.CHAT),
    "GET /tenant/feedback": Expected(ADMIN, ApiScope.TENANT_READ),
    "POST /v1/chat/completions": Expected(
        VIEWER,
        ApiScope.CHAT,
        body={
            "model": "polyplane",
            "messages": [{"role": "user", "content": "Hello?"}],
            "document_ids": ["$document"],
        },
    ),
    "POST /v1/embeddings": Expected(
        VIEWER, ApiScope.SEARCH, body={"model": "test-embedder", "input": "Some words."}
    ),
    "GET /v1/models": Expected(VIEWER, "any"),
    "GET /v1/models/{model}": Expected(VIEWER, "any"),
    "GET /billing/usage": Expected(VIEWER, ApiScope.BILLING_READ),
    "GET /billing/plans": Expected(VIEWER, ApiScope.BILLING_READ),
    "POST /billing/subscription": Expected(OWNER, body={"plan": "pro"}),
    "POST /billing/webhooks/stripe": Expected(None, body={}),
    "GET /billing/invoices": Expected(ADMIN, ApiScope.BILLING_READ),
    "GET /billing/invoices/{invoice_id}": Expected(ADMIN, ApiScope.BILLING_READ),
    "GET /.well-known/jwks.json": Expected(None),
    "GET /health": Expected(None),
    "GET /health/live": Expected(None),
    "GET /health/ready": Expected(None),
}
