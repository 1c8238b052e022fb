"""`polyplane admin`: the tenants of this machine."""

import asyncio
from uuid import UUID

import typer

from planes.shared.errors import PlatformError
from planes.shared.stores.postgres import Database
from services.cli.admin_people import running
from services.cli.terminal import console, errors
from services.embedded.installation import Installation
from services.gateway.tenants import repository
from services.gateway.tenants.models import Tenant

_PART = 500


def list_tenants() -> None:
    """List all tenants with plan and number of members, the oldest first."""
    try:
        asyncio.run(_show(running()))
    except PlatformError as error:
        errors.print(error.detail, markup=False)
        raise typer.Exit(1) from error


async def _show(installation: Installation) -> None:
    database = Database(installation.database_url("polyplane_gateway"), service="cli")
    await database.open()
    try:
        last: UUID | None = None
        while part := await _after(database, last):
            for tenant in part:
                _print(tenant)
            last = part[-1].id
    finally:
        await database.close()


async def _after(database: Database, last: UUID | None) -> list[Tenant]:
    async with database.platform() as connection:
        return await repository.after(connection, last, _PART)


def _print(tenant: Tenant) -> None:
    members = f"{tenant.member_count} member{'' if tenant.member_count == 1 else 's'}"
    line = f"{tenant.created_at:%Y-%m-%d}  {tenant.id}  {tenant.plan:<10}  {members:<10}"
    console.print(f"{line}  {tenant.name}", markup=False)
