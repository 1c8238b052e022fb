"""The parts of tenants, put together for a composition root."""

from collections.abc import Callable
from dataclasses import dataclass

from planes.shared.domain import new_id
from services.gateway.auth.recovery import MailThrottle
from services.gateway.auth.sessions import Sessions
from services.gateway.limits.scripts import RedisScripts
from services.gateway.tenants.audit_list import AuditList
from services.gateway.tenants.deletion import TenantDeletionService
from services.gateway.tenants.export import TenantExport
from services.gateway.tenants.invitations import InvitationService
from services.gateway.tenants.members import MemberService
from services.gateway.tenants.removal import TenantRemoval, TenantStores
from services.gateway.tenants.service import TenantService


@dataclass(frozen=True, slots=True)
class TenantFeature:
    """The services behind `/tenant`, and what works off deleted tenants."""

    tenants: TenantService
    members: MemberService
    invitations: InvitationService
    audit: AuditList
    export: TenantExport
    deletions: TenantDeletionService
    removal: TenantRemoval


def assemble(
    stores: TenantStores,
    sessions: Sessions,
    request_removal: Callable[[], None],
    *,
    invites_by_mail: bool,
) -> TenantFeature:
    """Return the feature over its stores."""
    database, throttle = stores.database, MailThrottle(RedisScripts(stores.redis))
    return TenantFeature(
        tenants=TenantService(database),
        members=MemberService(database, sessions),
        invitations=InvitationService(database, new_id, throttle if invites_by_mail else None),
        audit=AuditList(database),
        export=TenantExport(database, stores.objects, new_id),
        deletions=TenantDeletionService(database, sessions, new_id),
        removal=TenantRemoval(stores, sessions, request_removal),
    )
