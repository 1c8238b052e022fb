"""`/tenant`: the tenant itself, its audit log, its export and its end."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Query
from fastapi.responses import StreamingResponse

from services.gateway.audit import Action
from services.gateway.auth.dependencies import (
    AddressLimit,
    TenantAdmin,
    TenantOwner,
    TenantReader,
)
from services.gateway.dependencies import (
    AuditListDep,
    BillingServiceDep,
    TenantDeletionServiceDep,
    TenantExportDep,
    TenantServiceDep,
)
from services.gateway.pagination import Cursor, Limit, decode_id, encode_id
from services.gateway.problems import problem_responses
from services.gateway.routing import PrefixRouter
from services.gateway.schemas import Page
from services.gateway.tenants.audit_list import AuditFilter
from services.gateway.tenants.responses import TAR_RESPONSE, TarResponse
from services.gateway.tenants.schemas import (
    AuditEntry,
    TenantAnswer,
    TenantChange,
    TenantDeletedOut,
    TenantDeletionRequest,
    TenantReceipt,
)

router = PrefixRouter(prefix="/tenant", tags=["Tenant"])
_RECEIPT_RATE = AddressLimit("receipts", 60)


async def _wanted_acts(
    action: Annotated[Action | None, Query(description="Only this act.")] = None,
    actor: Annotated[UUID | None, Query(description="Only what this user did.")] = None,
    start: Annotated[datetime | None, Query(alias="from", description="From this time on.")] = None,
    end: Annotated[datetime | None, Query(alias="to", description="Before this time.")] = None,
) -> AuditFilter:
    return AuditFilter(action, actor, _utc(start), _utc(end))


def _utc(time: datetime | None) -> datetime | None:
    return time if time is None or time.tzinfo else time.replace(tzinfo=UTC)


@router.get("", summary="Get the tenant", responses=problem_responses(401, 403, 404))
async def get_tenant(
    account: TenantReader, tenants: TenantServiceDep, billing: BillingServiceDep
) -> TenantAnswer:
    """Get the tenant of this session, with what its plan leaves."""
    return TenantAnswer.of(await tenants.find(account), await billing.quotas(account))


@router.patch("", summary="Rename the tenant", responses=problem_responses(401, 403, 404))
async def patch_tenant(
    body: TenantChange, account: TenantAdmin, tenants: TenantServiceDep, billing: BillingServiceDep
) -> TenantAnswer:
    """Give the tenant another name."""
    renamed = await tenants.rename(account, body.name)
    return TenantAnswer.of(renamed, await billing.quotas(account))


@router.get("/audit", summary="Read the audit log", responses=problem_responses(401, 403))
async def get_audit(
    account: TenantOwner,
    audit: AuditListDep,
    wanted: Annotated[AuditFilter, Depends(_wanted_acts)],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[AuditEntry]:
    """List who did what of weight in the tenant, newest first. Nothing is ever taken out."""
    found = await audit.page(account, wanted, before=decode_id(cursor), limit=limit + 1)
    following = encode_id(found[limit - 1].id) if len(found) > limit else None
    return Page(items=found[:limit], next_cursor=following)


@router.get(
    "/export",
    summary="Export the tenant",
    response_class=StreamingResponse,
    responses={**TAR_RESPONSE, **problem_responses(401, 403, 409)},
)
async def export_tenant(account: TenantOwner, export: TenantExportDep) -> StreamingResponse:
    """Stream the tenant's data and files as a tar archive: JSON lines, originals and texts.

    Of conversations it holds who had them and when, not what was said: that is for each member to
    export. `manifest.json` is the last entry: an archive without it was cut off. 409: another
    export is under way.
    """
    return TarResponse(await export.begin(account), f"polyplane-{account.context.tenant_id}.tar")


@router.delete(
    "", status_code=202, summary="Delete the tenant", responses=problem_responses(401, 403, 404)
)
async def delete_tenant(
    account: TenantOwner,
    deletions: TenantDeletionServiceDep,
    body: TenantDeletionRequest | None = None,
) -> TenantDeletedOut:
    """End the tenant for everybody at once, and remove its data from every store.

    Send the tenant's name as `confirm_name`, so that a session in another tenant than you think
    deletes nothing: 422. A call without a body is taken at its word. Every session and API key in
    the tenant ends within a second. Keep the receipt: nothing else shows how far the removal has
    come.
    """
    name = body.confirm_name if body else None
    return TenantDeletedOut.of(await deletions.delete(account, confirm_name=name))


@router.get(
    "/receipts/{receipt}",
    summary="Get the receipt of a deleted tenant",
    dependencies=[Depends(_RECEIPT_RATE)],
    responses=problem_responses(404),
)
async def get_tenant_receipt(
    receipt: Annotated[str, Path(min_length=1, max_length=128)],
    deletions: TenantDeletionServiceDep,
) -> TenantReceipt:
    """Get what was removed from each store; needs no credentials but the receipt itself."""
    return await deletions.receipt(receipt)
