"""What a part of the platform is to its supervisor."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from planes.shared.settings import SettingsWrong, SharedSettings
from planes.shared.wire import WIRE_HEADER, WIRE_VERSION, ServingTokens

Readiness = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One process that is started, watched, restarted and stopped.

    Attributes:
        name: Also of its log.
        command: Program and arguments.
        environment: All of it; nothing is inherited.
        folder: Its working directory.
        needs: Parts that must be ready before its first start.
        is_ready: Asked until it says yes, then now and then. None: the part runs once and is
            done when it exits with 0.
        account: Whom it runs as, None for the supervisor's own account.
        stop_signal: Asks it to end; also sent by the kernel when the supervisor dies.
        stop_s: Seconds until SIGKILL.
        stop_order: Parts of a lower number are stopped first.
        settings: What it reads from its environment, if it is a program of ours.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str]
    folder: Path
    needs: tuple[str, ...] = ()
    is_ready: Readiness | None
    account: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_s: float = 10
    stop_order: int = 1
    settings: type[SharedSettings] | None = None


def check_settings(parts: Iterable[Part]) -> None:
    """Read every part's settings, before anything is started.

    Raises:
        SettingsWrong: It names each variable that is wrong, once.
    """
    flaws: list[str] = []
    for part in parts:
        try:
            if part.settings is not None:
                part.settings.of(part.environment)
        except SettingsWrong as error:
            flaws += str(error).splitlines()
    if flaws:
        raise SettingsWrong("\n".join(dict.fromkeys(flaws)))


def http_answers(url: str, headers: Callable[[], Mapping[str, str]] = dict) -> Readiness:
    """Return a check that a GET of `url`, with headers made for each, answers with 2xx."""

    async def is_ready() -> bool:
        try:
            async with _loopback_client() as client:
                return (await client.get(url, headers=headers())).is_success
        except httpx.HTTPError:
            return False

    return is_ready


def serving_answers(port: int, secret: str) -> Readiness:
    """Return a check that the serving plane on a port is well, and the one with this secret."""
    tokens = ServingTokens(secret)

    def headers() -> Mapping[str, str]:
        token = tokens.mint_for_health()
        return {"authorization": f"Bearer {token}", WIRE_HEADER: WIRE_VERSION}

    return http_answers(f"http://127.0.0.1:{port}/v1/health", headers)


def _loopback_client() -> httpx.AsyncClient:
    return httpx.AsyncClient(
        timeout=3,
        verify=False,  # noqa: S501 - one's own certificate, our own port
        trust_env=False,
    )


def port_answers(port: int) -> Readiness:
    """Return a check that something listens on a port of loopback."""

    async def is_ready() -> bool:
        try:
            async with asyncio.timeout(2):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    return is_ready


_DAEMON_HEALTH = "{ instance { daemonHealth { allDaemonStatuses { required healthy } } } }"


def dagster_daemon_is_healthy(port: int) -> Readiness:
    """Return a check of the daemon's heartbeats, asked of the webserver on `port`."""

    async def is_ready() -> bool:
        try:
            async with _loopback_client() as client:
                answer = await client.post(
                    f"http://127.0.0.1:{port}/graphql", json={"query": _DAEMON_HEALTH}
                )
            health = answer.json()["data"]["instance"]["daemonHealth"]["allDaemonStatuses"]
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return False
        return all(status["healthy"] for status in health if status["required"])

    return is_ready
