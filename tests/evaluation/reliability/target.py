"""The platform under measurement: its address, its processes and its database."""

import asyncio
import os
import secrets
import ssl
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx

from services.embedded.home import Home
from services.embedded.installation import running_installation
from services.embedded.postgres import PLATFORM_DATABASE
from services.embedded.state import PartState, read_state
from tests.servers.traffic import Visitor

# one for all clients: making it takes 20 ms, and the gateway speaks HTTP here
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True, slots=True)
class Target:
    """An embedded platform that runs on this machine."""

    base_url: str
    home: Home

    @classmethod
    def at(cls, folder: Path) -> "Target":
        """Return the platform that runs in a home."""
        home = Home(folder.expanduser().resolve())  # by which a home is known
        installation = running_installation(home)
        if installation is None:
            raise SystemExit(f"No platform runs in {home.root}: start one with `polyplane up`.")
        return cls(installation.gateway_url(), home)

    def parts(self) -> list[PartState]:
        """Return what the supervisor says of its parts."""
        state = read_state(self.home)
        return state.parts if state is not None else []

    def part(self, name: str) -> PartState:
        """Return one part."""
        return next(part for part in self.parts() if part.name == name)

    def gateways(self) -> list[str]:
        """Return the names of the gateway's processes."""
        return [part.name for part in self.parts() if part.name.startswith("gateway")]

    async def sql(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Run a statement as the owner of the schema."""
        installation = running_installation(self.home)
        assert installation is not None
        url = installation.servers.owner_url(PLATFORM_DATABASE)
        connection = await asyncpg.connect(url, timeout=5)
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()

    def client(self, visitor: Visitor, *, timeout_s: float = 90) -> httpx.AsyncClient:
        """Return a client with connections of its own, and the visitor's token."""
        return httpx.AsyncClient(
            base_url=self.base_url,
            headers=visitor.http.headers,
            timeout=timeout_s,
            trust_env=False,
            verify=_NO_TLS,
        )

    async def all_ready(self) -> None:
        """Wait until every part is ready, so that one measurement does not disturb the next."""
        while any(part.condition not in ("ready", "done") for part in self.parts()):
            await asyncio.sleep(0.2)

    @asynccontextmanager
    async def free_plan(self, **limits: int | None) -> AsyncIterator[None]:
        """Give the free plan other limits for a while; for people who register in the meantime."""
        columns = ", ".join(f"{name} = ${number}" for number, name in enumerate(limits, 1))
        [before] = await self.sql(f"SELECT {', '.join(limits)} FROM plans WHERE name = 'free'")  # noqa: S608
        statement = f"UPDATE plans SET {columns} WHERE name = 'free'"  # noqa: S608
        await self.sql(statement, *limits.values())
        try:
            yield
        finally:
            await self.sql(statement, *before.values())


def spread(seconds: Sequence[float], unit: str = "ms") -> str:
    """Return median and range in words."""
    factor = 1000 if unit == "ms" else 1
    low, middle, high = (
        factor * value for value in (min(seconds), statistics.median(seconds), max(seconds))
    )
    return f"median {middle:.1f} {unit} of {len(seconds)}, {low:.1f} to {high:.1f} {unit}"


def row(what: str, figure: str) -> None:
    """Print one line of a Markdown table."""
    print(f"| {what} | {figure} |", flush=True)


def machine() -> str:
    """Return what this ran on."""
    return f"{os.cpu_count()} CPUs, {os.uname().sysname} {os.uname().release.split('-')[0]}"


def question(words: int, pause_ms: int) -> dict[str, object]:
    """Return a chat request whose answer takes that long (`tests.servers.language_model`)."""
    message = f"Say {words} words, one every {pause_ms} ms. {secrets.token_hex(4)}"
    return {"message": message, "mode": "open"}
