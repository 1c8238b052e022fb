"""`DELETE /auth/me` and `GET /auth/me/export`."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.responses import StreamingResponse

from services.gateway.auth.account import AccountDeletion, Proof
from services.gateway.auth.account_export import AccountExport
from services.gateway.auth.account_schemas import AccountDeletedOut, AccountDeletionRequest
from services.gateway.auth.dependencies import ClientDep, SignedIn
from services.gateway.problems import problem_responses
from services.gateway.routing import PrefixRouter
from services.gateway.tenants.responses import TAR_RESPONSE, TarResponse
from services.gateway.tenants.schemas import TenantDeletedOut

router = PrefixRouter(prefix="/auth/me", tags=["Identity"])


async def _deletion(request: Request) -> AccountDeletion:
    service: AccountDeletion = request.app.state.account_deletion
    return service


async def _export(request: Request) -> AccountExport:
    service: AccountExport = request.app.state.account_export
    return service


@router.delete(
    "", status_code=202, summary="Delete my account", responses=problem_responses(401, 403, 409)
)
async def delete_me(
    body: AccountDeletionRequest,
    account: SignedIn,
    client: ClientDep,
    deletion: Annotated[AccountDeletion, Depends(_deletion)],
) -> AccountDeletedOut:
    """End the account in all tenants at once; conversations are removed within a minute.

    Documents stay with their tenants; tenants without other members are removed. 409: other
    members need you as their last owner.
    """
    password = body.password.get_secret_value() if body.password else None
    deletions = await deletion.delete(account, Proof(password, body.confirm_email), client)
    tenants = [TenantDeletedOut.of(each) for each in deletions]
    return AccountDeletedOut(user_id=account.context.user_id, tenants=tenants)


@router.get(
    "/export",
    summary="Export my data",
    response_class=StreamingResponse,
    responses={**TAR_RESPONSE, **problem_responses(401, 409)},
)
async def export_me(
    account: SignedIn, export: Annotated[AccountExport, Depends(_export)]
) -> StreamingResponse:
    """Stream what is known of you, in every tenant you belong to, as a tar archive of JSON lines.

    `manifest.json` is the last entry: an archive without it was cut off.
    """
    return TarResponse(await export.begin(account), "polyplane-account.tar")
