"""The people of a load test: each with an account, a tenant and a document that is ready."""

import asyncio
import json
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx

DOORS = 40
"""What a person's document has facts about."""

_AT_ONCE = 16
_EVERY_S = 1.0
_READY_S = 1800


@dataclass(frozen=True, slots=True)
class Person:
    """Who signs in, from which address, and what their document is about.

    Attributes:
        address: Told as a trusted proxy would, so that limits by address meet one person.
        mark: A word that their document alone holds.
    """

    email: str
    password: str
    tenant_id: str
    address: str
    mark: str


@dataclass(frozen=True, slots=True)
class _Newcomer:
    """A person whose document is not known to be ready."""

    person: Person
    token: str
    document_id: str


def document(mark: str) -> bytes:
    """Return a text about the doors of a building."""
    doors = (
        f"Door {mark}-{number} opens with the code {secrets.randbelow(10**6):06}. Its key hangs in "
        "the hall, beside the plan of the building. Nobody may copy it without asking first."
        for number in range(DOORS)
    )
    return "\n\n".join(doors).encode()


def write_people(path: Path, people: Iterable[Person]) -> None:
    """Write a line of JSON for each."""
    path.write_text("".join(json.dumps(asdict(each)) + "\n" for each in people), "utf-8")


def read_people(path: Path) -> list[Person]:
    """Read what `write_people` wrote."""
    return [Person(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]


async def new_people(base_url: str, number: int) -> list[Person]:
    """Sign up so many people by the public API; return them once their documents are ready.

    Where the platform does not trust this machine to name other addresses, it lets as many register
    as its limit by address does.

    Raises:
        httpx.HTTPStatusError: A call was refused for another reason than its rate.
        TimeoutError: It takes more than half an hour.
    """
    newcomers: list[_Newcomer] = []
    places = iter(range(number))

    async def sign_up(http: httpx.AsyncClient) -> None:
        for place in places:
            newcomers.append(await _sign_up(http, place))

    async with asyncio.timeout(_READY_S), httpx.AsyncClient(base_url=base_url, timeout=60) as http:
        await asyncio.gather(*(sign_up(http) for _ in range(_AT_ONCE)))
        for newcomer in newcomers:
            await _ready(http, newcomer)
    return [newcomer.person for newcomer in newcomers]


async def _sign_up(http: httpx.AsyncClient, place: int) -> _Newcomer:
    person = Person(
        email=f"load-{secrets.token_hex(8)}@example.com",
        password=secrets.token_urlsafe(18),
        tenant_id="",
        address=f"2001:db8:{place >> 16:x}:{place & 0xFFFF:x}::1",
        mark=secrets.token_hex(4),
    )
    body = {"email": person.email, "password": person.password, "tenant_name": f"Load {place}"}
    headers = {"x-forwarded-for": person.address}
    registered = await _post(http, "/auth/register", headers=headers, json=body)
    token = registered["access_token"]
    file = (f"{person.mark}.txt", document(person.mark))
    headers["authorization"] = f"Bearer {token}"
    uploaded = await _post(http, "/documents", headers=headers, files={"file": file})
    known = replace(person, tenant_id=registered["tenant"]["id"])
    return _Newcomer(known, token, uploaded["document"]["id"])


async def _post(http: httpx.AsyncClient, path: str, **request: Any) -> dict[str, Any]:
    """Post, and again when a limit lets it pass."""
    while True:
        answer = await http.post(path, **request)
        if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
            return dict(answer.raise_for_status().json())
        await asyncio.sleep(float(answer.headers["retry-after"]))


async def _ready(http: httpx.AsyncClient, newcomer: _Newcomer) -> None:
    headers = {"authorization": f"Bearer {newcomer.token}"}
    while True:
        answer = await http.get(f"/documents/{newcomer.document_id}", headers=headers)
        if answer.raise_for_status().json()["status"] == "ready":
            return
        await asyncio.sleep(_EVERY_S)
