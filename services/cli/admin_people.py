"""`polyplane admin`: commands for people who have an account."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated

import typer
from redis.asyncio import Redis

from planes.shared.errors import PlatformError
from planes.shared.settings import SettingsWrong
from planes.shared.stores.postgres import Database
from planes.shared.stores.redis_address import RedisSettings
from planes.shared.stores.redis_clients import redis_client
from services.cli.terminal import console, errors
from services.embedded.home import locate
from services.embedded.installation import Installation, running_installation
from services.gateway.auth.assembly import Identity, IdentityOptions, assemble

Email = Annotated[str, typer.Option(help="Address that the user signs in with.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]


def reset_password(email: Email, password_stdin: PasswordStdin = False) -> None:
    """Give a user a new password; ends all of the user's sessions and API keys."""
    installation = running()
    password = ask_password(from_stdin=password_stdin)

    async def reset(identity: Identity) -> None:
        await identity.people.reset_password(email, password)

    _act(installation, reset)
    console.print(f"{email} has a new password; all sessions and API keys ended.", markup=False)


def disable_user(email: Email) -> None:
    """Keep a user out; acts within a second on every gateway."""

    async def disable(identity: Identity) -> None:
        await identity.people.disable(email)

    _act(running(), disable)
    console.print(f"{email} is disabled; all sessions ended.", markup=False)


def enable_user(email: Email) -> None:
    """Let a disabled user in again."""

    async def enable(identity: Identity) -> None:
        await identity.people.enable(email)

    _act(running(), enable)
    console.print(f"{email} may sign in again.", markup=False)


def list_users() -> None:
    """List all users and the tenants of each, the oldest account first."""

    async def show(identity: Identity) -> None:
        async for person in identity.people.everybody():
            verified = "verified" if person.is_verified else "unverified"
            disabled = "  disabled" if person.is_disabled else ""
            line = f"{person.created_at:%Y-%m-%d}  {person.id}  {verified:<10}  {person.email}"
            tenants = "".join(f"  tenant {each}" for each in person.tenant_ids)
            console.print(line + disabled + tenants, markup=False)

    _act(running(), show)


def running() -> Installation:
    """Return the platform of this machine.

    Raises:
        typer.Exit: It does not run, or where its servers are cannot be read any more.
    """
    installation = running_installation(locate())
    if installation is None:
        errors.print("Polyplane is not running: start it with `polyplane up`.")
        raise typer.Exit(3)
    try:
        installation.settings(RedisSettings)
        installation.servers.passwords()
    except SettingsWrong as error:  # a file of a secret is gone, for example
        errors.print(str(error), markup=False)
        raise typer.Exit(1) from error
    return installation


def ask_password(*, from_stdin: bool) -> str:
    """Return a new password, asked for twice or read from standard input."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def open_redis(installation: Installation) -> Redis:
    """Return a client of the gateway's Redis, which connects with its first call."""
    settings = installation.settings(RedisSettings)
    if settings.redis_url is None:  # the gateway does not start without
        raise SettingsWrong("REDIS_URL: Field required")
    return redis_client(settings.redis_url.get_secret_value(), settings.redis_login)


@asynccontextmanager
async def open_identity(installation: Installation) -> AsyncIterator[Identity]:
    """Open the gateway's identity, without a gateway."""
    database = Database(installation.database_url("polyplane_gateway"), service="cli")
    redis = open_redis(installation)
    options = IdentityOptions(
        keys_dir=installation.home.keys,
        refresh_secret=installation.secrets["gateway_refresh_secret"],
    )
    identity = assemble(database, redis, options)
    await database.open()
    try:
        yield identity
    finally:
        identity.close()
        await redis.aclose()
        await database.close()


def _act(installation: Installation, act: Callable[[Identity], Awaitable[None]]) -> None:
    async def run() -> None:
        async with open_identity(installation) as identity:
            await act(identity)
            await identity.gate.send_unsent()  # fails where Redis did not hear of it: repeat

    try:
        asyncio.run(run())
    except PlatformError as error:
        errors.print(error.detail, markup=False)
        raise typer.Exit(1) from error
