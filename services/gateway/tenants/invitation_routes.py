"""`/tenant/invitations`."""

from uuid import UUID

from fastapi import Response

from services.gateway.auth.dependencies import SignedIn, TenantAdmin
from services.gateway.dependencies import InvitationServiceDep
from services.gateway.idempotency.dependencies import Idempotent
from services.gateway.pagination import Cursor, Limit, decode_id, encode_id
from services.gateway.problems import problem_responses
from services.gateway.routing import PrefixRouter
from services.gateway.schemas import Page
from services.gateway.tenants.schemas import (
    AcceptedOut,
    AcceptRequest,
    InvitationOut,
    InvitationRequest,
    NewInvitationOut,
)

router = PrefixRouter(prefix="/tenant/invitations", tags=["Tenant"])


@router.post(
    "",
    status_code=201,
    summary="Invite somebody",
    responses=problem_responses(400, 401, 403, 409),
)
async def post_invitation(
    body: InvitationRequest,
    response: Response,
    account: TenantAdmin,
    invitations: InvitationServiceDep,
    request: Idempotent,
) -> NewInvitationOut:
    """Invite an e-mail address for seven days, to a role up to your own.

    Replaces an earlier invitation of the same address.
    """
    response.headers["cache-control"] = "no-store"
    async with request.attempt(account.context, body) as effect:
        return await invitations.invite(account, body.email, body.role, effect)


@router.get("", summary="List open invitations", responses=problem_responses(401, 403))
async def get_invitations(
    account: TenantAdmin,
    invitations: InvitationServiceDep,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[InvitationOut]:
    """List who is invited, newest first."""
    found = await invitations.page(account, before=decode_id(cursor), limit=limit + 1)
    items = [InvitationOut.of(each) for each in found[:limit]]
    following = encode_id(items[-1].id) if len(found) > limit else None
    return Page(items=items, next_cursor=following)


@router.delete(
    "/{invitation_id:uuid}",
    status_code=204,
    summary="Withdraw an invitation",
    responses=problem_responses(401, 403, 404),
)
async def delete_invitation(
    invitation_id: UUID, account: TenantAdmin, invitations: InvitationServiceDep
) -> None:
    """End an invitation; its token is worth nothing from now on."""
    await invitations.withdraw(account, invitation_id)


@router.post(
    "/accept",
    summary="Accept an invitation",
    responses=problem_responses(400, 401, 403, 404, 409),
)
async def post_acceptance(
    body: AcceptRequest,
    account: SignedIn,
    invitations: InvitationServiceDep,
    request: Idempotent,
) -> AcceptedOut:
    """Become a member of another tenant; the invitation must be for your e-mail address."""
    token = body.token.get_secret_value()
    async with request.attempt(account.context, {"token": token}) as effect:
        return await invitations.accept(account, token, effect)
