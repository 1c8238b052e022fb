"""`polyplane admin`: accounts, for the operator of this machine."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from planes.shared.errors import PlatformError
from services.cli.admin_feedback import export_feedback, list_feedback, review_feedback
from services.cli.admin_generations import (
    build_generation,
    create_generation,
    drop_generation,
    evaluate_generation,
    list_generations,
    rollback_generation,
    switch_generation,
)
from services.cli.admin_people import (
    Email,
    PasswordStdin,
    ask_password,
    disable_user,
    enable_user,
    list_users,
    open_identity,
    reset_password,
    running,
)
from services.cli.admin_plans import check_ledger, list_plans, set_plan
from services.cli.admin_sources import add_source, list_sources, remove_source, scan_sources
from services.cli.admin_tenants import list_tenants
from services.cli.terminal import console, errors
from services.embedded.home import locate
from services.embedded.installation import Installation
from services.gateway.auth.key_rotation import rotate
from services.gateway.auth.keys import PUBLISH_S, NoSigningKey
from services.gateway.auth.models import NewUser, Profile
from services.gateway.auth.schemas import RegisterRequest

app = typer.Typer(
    help="Accounts, for the operator of this machine.", no_args_is_help=True, add_completion=False
)
app.command("reset-password")(reset_password)
app.command("disable-user")(disable_user)
app.command("enable-user")(enable_user)
app.command("list-users")(list_users)
app.command("list-tenants")(list_tenants)
app.command("set-plan")(set_plan)
app.command("list-feedback")(list_feedback)
app.command("review-feedback")(review_feedback)
app.command("export-feedback")(export_feedback)
app.command("list-plans")(list_plans)
app.command("check-ledger")(check_ledger)
app.command("list-generations")(list_generations)
app.command("create-generation")(create_generation)
app.command("build-generation")(build_generation)
app.command("evaluate-generation")(evaluate_generation)
app.command("switch-generation")(switch_generation)
app.command("rollback-generation")(rollback_generation)
app.command("drop-generation")(drop_generation)
app.command("add-source")(add_source)
app.command("list-sources")(list_sources)
app.command("remove-source")(remove_source)
app.command("scan-sources")(scan_sources)


@app.callback()
def _admin() -> None:
    """Accounts, for the operator of this machine."""


@app.command("create-user")
def create_user(
    email: Email,
    tenant: Annotated[str | None, typer.Option(help="Name of the user's new tenant.")] = None,
    password_stdin: PasswordStdin = False,
) -> None:
    """Create a user who owns a new tenant."""
    installation = running()
    password = ask_password(from_stdin=password_stdin)
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


@app.command("rotate-keys")
def rotate_keys(
    keys_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="GATEWAY_KEYS_DIR", help="Folder of the keys; that of the platform here."
        ),
    ] = None,
    publish_s: Annotated[
        float,
        typer.Option(envvar="GATEWAY_KEY_PUBLISH_S", min=2, help="As the gateways are told."),
    ] = PUBLISH_S,
) -> None:
    """Add a signing key for access tokens, and remove those whose last token has expired.

    The platform may run or not: gateways look into the folder, now and when they start.
    """
    folder = keys_dir or locate().keys
    if not folder.is_dir():
        errors.print(
            f"There are no keys in {folder}: `polyplane up` makes the first one. If the platform "
            "lives elsewhere, set POLYPLANE_HOME or GATEWAY_KEYS_DIR.",
            markup=False,
        )
        raise typer.Exit(3)
    try:
        rotation = rotate(folder, publish_s=publish_s)
    except (NoSigningKey, OSError) as error:
        errors.print(str(error), markup=False)
        raise typer.Exit(1) from error
    when = datetime.fromtimestamp(rotation.signs_at, UTC)
    console.print(f"Added the key {rotation.key_id} to {folder}.", markup=False)
    console.print(f"It signs from {when:%H:%M:%S} UTC on.")
    for key_id in rotation.removed:
        console.print(f"Removed the key {key_id}: its last token has expired.")


async def _create(installation: Installation, new: NewUser) -> Profile:
    async with open_identity(installation) as identity:
        return await identity.auth.create_user(new)
