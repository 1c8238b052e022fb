"""Who may change a document: members their own, admins all."""

import asyncpg

from planes.shared.domain import Role
from planes.shared.errors import Forbidden
from services.gateway.auth.models import Account


def check_may_change(document: asyncpg.Record, account: Account, act: str) -> None:
    """Refuse members who did not upload a document.

    Raises:
        Forbidden: The account may not.
    """
    if account.role.rank < Role.ADMIN.rank and document["owner_id"] != account.context.user_id:
        raise Forbidden(f"Members may {act} only documents that they uploaded.")
