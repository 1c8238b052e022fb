"""Guessing passwords gets slower and slower; nobody is locked out for good."""

import hashlib
import math

from planes.shared.errors import TooManyRequests
from services.gateway.limits.addresses import AddressRates, network_of
from services.gateway.limits.scripts import RedisScripts

_FREE_ATTEMPTS = 10
_LONGEST_WAIT_MS = 60_000
_FORGOTTEN_AFTER_MS = 900_000


class LoginThrottle:
    """Counts attempts per account and per address; from the tenth failure on, waits double.

    The wait starts at one second and ends at a minute. Attempts are forgotten a quarter of an hour
    after the last one.
    """

    def __init__(
        self, scripts: RedisScripts, addresses: AddressRates, *, registrations_per_minute: int
    ) -> None:
        """Store the parts, and how many accounts one address may register."""
        self._scripts = scripts
        self._addresses = addresses
        self._registrations_per_minute = registrations_per_minute

    async def begin(self, account: str, address: str) -> None:
        """Count an attempt as a failure until `succeed` or `cancel` says otherwise.

        Raises:
            TooManyRequests: It must wait, and was not counted.
            RedisUnavailable: Nothing can be counted.
        """
        await self._count(_address_key(address))
        try:
            await self._count(_account_key(account))
        except TooManyRequests:
            await self._refund(_address_key(address))
            raise

    async def succeed(self, account: str, address: str) -> None:
        """Forget the account's failures, and this attempt of the address."""
        await self._scripts.run("forget", [_account_key(account)])
        await self._refund(_address_key(address))

    async def cancel(self, account: str, address: str) -> None:
        """Take an attempt back that was not carried out."""
        await self._refund(_account_key(account))
        await self._refund(_address_key(address))

    async def register(self, address: str) -> None:
        """Count one registration from an address.

        Raises:
            TooManyRequests: The address has registered too many accounts.
            RedisUnavailable: Nothing can be counted.
        """
        limit = self._registrations_per_minute
        rates = await self._addresses.take("registrations", address, limit)
        rates.check()

    async def _count(self, key: str) -> None:
        [wait_ms] = await self._scripts.run(
            "attempt", [key], _FREE_ATTEMPTS, _LONGEST_WAIT_MS, _FORGOTTEN_AFTER_MS
        )
        _refuse(wait_ms, "Too many failed sign-ins.")

    async def _refund(self, key: str) -> None:
        await self._scripts.run("refund", [key])


def _refuse(wait_ms: int, reason: str) -> None:
    if wait_ms > 0:
        wait_s = math.ceil(wait_ms / 1000)
        raise TooManyRequests(f"{reason} Try again in {wait_s} s.", retry_after_s=wait_s)


def _account_key(account: str) -> str:
    return "attempts:account:" + hashlib.sha256(account.encode()).hexdigest()


def _address_key(address: str) -> str:
    return f"attempts:address:{network_of(address)}"
