"""Measure whether a refused sign-in tells by its time what is wrong with the account.

    python -m tests.evaluation.login_timing http://127.0.0.1:8000 postgresql://gateway@...

Every attempt comes from an address of its own, so that no throttle answers it: the gateway must
trust this machine as a proxy (GATEWAY_TRUSTED_PROXIES=127.0.0.1/32). The database is needed to
disable accounts.
"""

import asyncio
import random
import secrets
import statistics
import sys
import time

import asyncpg
import httpx

_ACCOUNTS = 25
_ATTEMPTS = 8  # of each account: fewer than slow it down
_PASSWORD = secrets.token_urlsafe(24)


async def _measure(address: str, database_url: str) -> None:
    """Print the medians and how far they are apart."""
    async with httpx.AsyncClient(base_url=address, timeout=30) as http:
        wrong = [await _register(http) for _ in range(_ACCOUNTS)]
        disabled = [await _register(http) for _ in range(_ACCOUNTS)]
        await _disable(database_url, disabled)
        attempts = [("unknown", _new_email(), _PASSWORD) for _ in range(_ACCOUNTS * _ATTEMPTS)]
        attempts += [("wrong password", email, "not it") for email in wrong * _ATTEMPTS]
        attempts += [("disabled", email, _PASSWORD) for email in disabled * _ATTEMPTS]
        random.shuffle(attempts)
        times: dict[str, list[float]] = {}
        for kind, email, password in attempts:
            times.setdefault(kind, []).append(await _refused(http, email, password))
    medians = {kind: 1000 * statistics.median(each) for kind, each in times.items()}
    for kind, median in medians.items():
        print(f"{kind}: median {median:.2f} ms of {len(times[kind])}")
    print(f"apart: {max(medians.values()) - min(medians.values()):.2f} ms")


async def _register(http: httpx.AsyncClient) -> str:
    email = _new_email()
    body = {"email": email, "password": _PASSWORD}
    answer = await http.post("/auth/register", json=body, headers=_from_somewhere())
    answer.raise_for_status()
    return email


async def _disable(database_url: str, emails: list[str]) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "UPDATE users SET disabled_at = now() WHERE email = ANY ($1::text[])", emails
    )
    await connection.close()


async def _refused(http: httpx.AsyncClient, email: str, password: str) -> float:
    body = {"email": email, "password": password}
    started = time.perf_counter()
    answer = await http.post("/auth/login", json=body, headers=_from_somewhere())
    elapsed_s = time.perf_counter() - started
    if answer.status_code != 401:
        raise RuntimeError(answer.text)
    return elapsed_s


def _new_email() -> str:
    return f"timing-{secrets.token_hex(8)}@example.com"


def _from_somewhere() -> dict[str, str]:
    return {"x-forwarded-for": f"2001:db8:{secrets.token_hex(2)}:{secrets.token_hex(2)}::1"}


if __name__ == "__main__":
    asyncio.run(_measure(sys.argv[1], sys.argv[2]))
