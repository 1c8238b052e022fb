r"""Measure whether a refused sign-in tells by its time what is wrong with the account.

    python -m tests.evaluation.login_timing http://127.0.0.1:8000 postgresql://gateway@...

Every attempt comes from an address of its own, so that no throttle answers it: the gateway must
trust this machine as a proxy (GATEWAY_TRUSTED_PROXIES=127.0.0.1/32). The database is needed to
disable accounts, and to confirm addresses.

Accounts whose address nobody has confirmed are a fourth kind where the gateway keeps them out. It
takes mail that goes nowhere:

    python -m aiosmtpd -n -c aiosmtpd.handlers.Sink -l 127.0.0.1:2525 &
    GATEWAY_EMAIL_VERIFICATION=true GATEWAY_SMTP_HOST=127.0.0.1 GATEWAY_SMTP_PORT=2525 \
        GATEWAY_SMTP_TLS=none GATEWAY_MAIL_FROM=timing@example.com \
        GATEWAY_PUBLIC_URL=http://127.0.0.1:8000 GATEWAY_TRUSTED_PROXIES=127.0.0.1/32 polyplane up
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
        people = [await _register(http) for _ in range(3 * _ACCOUNTS)]
        emails = [email for email, _ in people]
        wrong, disabled, unconfirmed = (emails[kind::3] for kind in range(3))
        await _prepare(database_url, wrong, disabled, unconfirmed)
        attempts = [("unknown", _new_email(), _PASSWORD) for _ in range(_ACCOUNTS * _ATTEMPTS)]
        attempts += [("wrong password", email, "not it") for email in wrong * _ATTEMPTS]
        attempts += [("disabled", email, _PASSWORD) for email in disabled * _ATTEMPTS]
        if not any(is_signed_in for _, is_signed_in in people):  # else they would be let in
            attempts += [("unconfirmed", email, _PASSWORD) for email in unconfirmed * _ATTEMPTS]
        random.shuffle(attempts)
        times: dict[str, list[float]] = {}
        for kind, email, password in attempts:
            times.setdefault(kind, []).append(await _refused(http, email, password))
    medians = {kind: 1000 * statistics.median(each) for kind, each in times.items()}
    for kind, median in medians.items():
        print(f"{kind}: median {median:.2f} ms of {len(times[kind])}")
    print(f"apart: {max(medians.values()) - min(medians.values()):.2f} ms")


async def _register(http: httpx.AsyncClient) -> tuple[str, bool]:
    """Return the address, and whether it is signed in without having been confirmed."""
    email = _new_email()
    body = {"email": email, "password": _PASSWORD}
    answer = await http.post("/auth/register", json=body, headers=_from_somewhere())
    answer.raise_for_status()
    return email, "access_token" in answer.json()


async def _prepare(
    database_url: str, confirmed: list[str], disabled: list[str], unconfirmed: list[str]
) -> None:
    """Wait for the accounts, which are made with their mail, and bring them into their states."""
    connection = await asyncpg.connect(database_url)
    everybody = [*confirmed, *disabled, *unconfirmed]
    count = "SELECT count(*) FROM users WHERE email = ANY ($1::text[])"
    async with asyncio.timeout(120):
        while await connection.fetchval(count, everybody) < len(everybody):
            await asyncio.sleep(0.5)
    await connection.execute(
        "UPDATE users SET email_verified_at = CASE WHEN email = ANY ($2::text[]) THEN NULL "
        "ELSE now() END, disabled_at = CASE WHEN email = ANY ($3::text[]) THEN now() END "
        "WHERE email = ANY ($1::text[])",
        everybody,
        unconfirmed,
        disabled,
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
