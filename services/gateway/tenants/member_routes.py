"""`/tenant/members`."""

from uuid import UUID

from planes.shared.domain import Role
from services.gateway.auth.dependencies import Remover, TenantAdmin, TenantReader
from services.gateway.dependencies import MemberServiceDep
from services.gateway.pagination import Cursor, Limit, decode_id, encode_id
from services.gateway.problems import problem_responses
from services.gateway.routing import PrefixRouter
from services.gateway.schemas import Page
from services.gateway.tenants.schemas import MemberOut, RoleChange

router = PrefixRouter(prefix="/tenant/members", tags=["Tenant"])


@router.get("", summary="List the members", responses=problem_responses(401, 403))
async def get_members(
    account: TenantReader, members: MemberServiceDep, limit: Limit = 50, cursor: Cursor = None
) -> Page[MemberOut]:
    """List who belongs to the tenant, the newest account first; admins see e-mail addresses."""
    found = await members.page(account, before=decode_id(cursor), limit=limit + 1)
    with_email = account.role.rank >= Role.ADMIN.rank
    items = [MemberOut.of(member, with_email=with_email) for member in found[:limit]]
    following = encode_id(items[-1].id) if len(found) > limit else None
    return Page(items=items, next_cursor=following)


@router.patch(
    "/{user_id}", summary="Change a member's role", responses=problem_responses(401, 403, 404, 409)
)
async def patch_member(
    user_id: UUID, body: RoleChange, account: TenantAdmin, members: MemberServiceDep
) -> MemberOut:
    """Give a member another role, within a second everywhere.

    Admins change everybody but owners; only owners make and unmake owners, and not by API keys.
    The last owner stays one: 409.
    """
    return MemberOut.of(await members.change_role(account, user_id, body.role), with_email=True)


@router.delete(
    "/{user_id}",
    status_code=204,
    summary="Remove a member, or leave",
    responses=problem_responses(401, 403, 404, 409),
)
async def delete_member(user_id: UUID, account: Remover, members: MemberServiceDep) -> None:
    """End a membership with its sessions and API keys: your own, or as an admin somebody else's.

    Documents stay with the tenant. The last owner cannot leave: 409. An API key removes whom an
    admin may, whoever made it.
    """
    await members.remove(account, user_id)
