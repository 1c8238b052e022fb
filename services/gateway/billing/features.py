"""What a plan offers beside its limits: data, so that an operator may take it from a plan."""

from enum import StrEnum
from uuid import UUID

from planes.shared.errors import Forbidden
from planes.shared.stores.postgres import Connection


class Feature(StrEnum):
    """Names in `plans.features`; every plan as delivered has all of them."""

    OPEN_CHAT = "open-chat"
    API_KEYS = "api-keys"
    INVITATIONS = "invitations"
    OIDC = "oidc"
    WEBHOOKS = "webhooks"
    EXPORT = "export"
    AUDIT_LOG = "audit-log"


async def require_feature(connection: Connection, tenant_id: UUID, feature: Feature) -> None:
    """Pass where the tenant's plan has a feature; `connection` must see the tenant.

    Raises:
        Forbidden: It has not; the problem's `feature` says which, its `plan` whose.
    """
    row = await connection.fetchrow(
        "SELECT p.name, $2 = ANY (p.features) AS has_feature "
        "FROM tenants t JOIN plans p ON p.name = t.plan WHERE t.id = $1",
        tenant_id,
        feature,
    )
    if row is not None and not row["has_feature"]:
        raise lacking(feature, row["name"])


def lacking(feature: Feature, plan: str) -> Forbidden:
    """Return the problem of a plan without a feature."""
    return Forbidden(
        f"The plan {plan} does not include this ({feature}). An owner may change the plan.",
        extensions={"feature": feature, "plan": plan},
    )
