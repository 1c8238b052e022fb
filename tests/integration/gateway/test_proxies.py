"""Whose word for the caller's address counts."""

from uuid import uuid4

import httpx
import pytest

from tests.integration.gateway.conftest import PASSWORD, Gateway


@pytest.fixture
def overrides() -> dict[str, object]:
    return {"registrations_per_minute": 1, "trusted_proxies": "127.0.0.1, 10.0.0.0/8"}


async def register(gateway: Gateway, forwarded_for: str) -> int:
    """Sign up through a proxy that says whom it forwards; return the status."""
    body = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD}
    headers = {"x-forwarded-for": forwarded_for}
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as http:
        return (await http.post("/auth/register", json=body, headers=headers)).status_code


@pytest.fixture
def caller() -> str:
    """An address that no other test uses."""
    return f"2001:db8:{uuid4().hex[:4]}:{uuid4().hex[:4]}::1"


async def test_behind_a_trusted_proxy_the_right_most_stranger_is_the_caller(
    gateway: Gateway, caller: str
) -> None:
    assert await register(gateway, f"198.51.100.1, {caller}") == 201
    assert await register(gateway, f"198.51.100.2, {caller}, 10.1.2.3") == 429
    assert await register(gateway, f"{caller}, 2001:db8:{uuid4().hex[:4]}::1") == 201


class TestElsewhere:
    """The proxy is not among those that are trusted."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"registrations_per_minute": 1, "trusted_proxies": "10.0.0.0/8"}

    async def test_a_forwarded_address_is_ignored(self, gateway: Gateway) -> None:
        statuses = [await register(gateway, f"198.51.100.{n}") for n in (1, 2, 3)]
        assert 429 in statuses[1:]
        assert 201 not in statuses[1:]
