"""`polyplane admin`: accounts, for the operator of this machine."""

import asyncio
import sys
from typing import Annotated

import typer
from pydantic import ValidationError
from redis.asyncio import Redis

from planes.shared.errors import PlatformError
from planes.shared.stores.postgres import Database
from services.cli.terminal import console, errors
from services.embedded.home import locate
from services.embedded.installation import Installation, running_installation
from services.gateway.auth.assembly import IdentityOptions, assemble
from services.gateway.auth.models import NewUser, Profile
from services.gateway.auth.schemas import RegisterRequest

app = typer.Typer(help="Accounts, for the operator of this machine.", no_args_is_help=True)


@app.callback()
def _admin() -> None:
    """Accounts, for the operator of this machine."""


@app.command("create-user")
def create_user(
    email: Annotated[str, typer.Option(help="Address that the user signs in with.")],
    tenant: Annotated[str | None, typer.Option(help="Name of the user's new tenant.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
) -> None:
    """Create a user who owns a new tenant."""
    installation = running_installation(locate())
    if installation is None:
        errors.print("Polyplane is not running: start it with `polyplane up`.")
        raise typer.Exit(3)
    password = _password(from_stdin=password_stdin)
    try:
        request = RegisterRequest.model_validate(
            {"email": email, "password": password, "tenant_name": tenant}
        )
        new = NewUser(email=request.email, password=password, tenant_name=request.tenant_name)
        profile = asyncio.run(_create(installation, new))
    except ValidationError as error:
        flaws = "; ".join(
            f"{flaw['loc'][0]}: {flaw['msg'].removeprefix('Value error, ')}"
            for flaw in error.errors()
        )
        errors.print(flaws, markup=False)
        raise typer.Exit(2) from error
    except PlatformError as error:
        errors.print(error.detail, markup=False)
        raise typer.Exit(1) from error
    console.print(f"Created {profile.email}, owner of {profile.tenant_name}.", markup=False)


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


async def _create(installation: Installation, new: NewUser) -> Profile:
    database = Database(installation.database_url("polyplane_gateway"), service="cli")
    redis = Redis.from_url(installation.redis().url())
    options = IdentityOptions(
        keys_dir=installation.home.keys,
        refresh_secret=installation.secrets["gateway_refresh_secret"],
    )
    identity = assemble(database, redis, options)
    await database.open()
    try:
        return await identity.auth.create_user(new)
    finally:
        identity.close()
        await redis.aclose()
        await database.close()
