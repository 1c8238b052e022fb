"""Guessing passwords gets slower and slower; nobody is locked out for good."""

import hashlib
import math
from dataclasses import dataclass

from planes.shared.errors import TooManyRequests
from services.gateway.limits.addresses import AddressRates, network_of
from services.gateway.limits.scripts import RedisScripts

_FREE_ATTEMPTS = 10
_LONGEST_WAIT_MS = 60_000
_FORGOTTEN_AFTER_MS = 900_000
_FRESH_ATTEMPTS = 3  # of an address, whatever the account
_LONGEST_FRESH_WAIT_MS = 5_000
_FAMILIAR_ADDRESSES = 5  # of an account
_FAMILIAR_S = 30 * 24 * 3600


class LoginThrottle:
    """Counts attempts per account and per address; from the tenth failure on, waits double.

    The wait starts at one second and ends at a minute. Attempts are forgotten a quarter of an hour
    after the last one. So that an attacker elsewhere keeps nobody out, an address from which the
    account was signed in to before waits for its own failures alone, and one that has hardly failed
    lately waits for the account's five seconds at most. An account that does not exist is treated
    as one that nobody has signed in to.
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
        keys = _Keys.of(account, address)
        number = await self._count(keys.address)
        longest_ms = _LONGEST_FRESH_WAIT_MS if number <= _FRESH_ATTEMPTS else _LONGEST_WAIT_MS
        try:
            if await self._is_familiar(keys):
                await self._count(keys.pair)
                longest_ms = 0  # counted for the others
            await self._count(keys.account, longest_ms)
        except TooManyRequests:
            await self._refund(keys.address)
            raise

    async def succeed(self, account: str, address: str) -> None:
        """Forget the account's failures and this attempt, and know the address from now on."""
        keys = _Keys.of(account, address)
        await self._scripts.run("forget", [keys.account, keys.pair])
        await self._refund(keys.address)
        await self._scripts.run(
            "recognise", [keys.familiar], keys.mark, _FAMILIAR_ADDRESSES, _FAMILIAR_S
        )

    async def cancel(self, account: str, address: str) -> None:
        """Take an attempt back that was not carried out."""
        keys = _Keys.of(account, address)
        for key in (keys.account, keys.pair, keys.address):
            await self._refund(key)

    async def register(self, address: str) -> None:
        """Count one registration from an address.

        Raises:
            TooManyRequests: The address has registered too many accounts.
            RedisUnavailable: Nothing can be counted.
        """
        limit = self._registrations_per_minute
        rates = await self._addresses.take("registrations", address, limit)
        rates.check()

    async def _is_familiar(self, keys: "_Keys") -> bool:
        [is_familiar] = await self._scripts.run("familiar", [keys.familiar], keys.mark, _FAMILIAR_S)
        return bool(is_familiar)

    async def _count(self, key: str, longest_ms: int = _LONGEST_WAIT_MS) -> int:
        """Count an attempt and return how many there are now."""
        wait_ms, number = await self._scripts.run(
            "attempt", [key], _FREE_ATTEMPTS, longest_ms, _FORGOTTEN_AFTER_MS
        )
        _refuse(wait_ms, "Too many failed sign-ins.")
        return number

    async def _refund(self, key: str) -> None:
        await self._scripts.run("refund", [key])


def _refuse(wait_ms: int, reason: str) -> None:
    if wait_ms > 0:
        wait_s = math.ceil(wait_ms / 1000)
        raise TooManyRequests(f"{reason} Try again in {wait_s} s.", retry_after_s=wait_s)


@dataclass(frozen=True, slots=True)
class _Keys:
    """Where Redis counts; neither accounts nor the addresses that belong to one stand in clear.

    The account's share a hash tag, so that they lie on one node of a cluster.
    """

    address: str
    account: str
    pair: str
    familiar: str
    mark: str

    @classmethod
    def of(cls, account: str, address: str) -> "_Keys":
        network = network_of(address)
        person, mark = _hash(account), _hash(f"{account} {network}")
        return cls(
            address=f"attempts:address:{network}",
            account=f"attempts:account:{{{person}}}",
            pair=f"attempts:account:{{{person}}}:{mark}",
            familiar=f"familiar:{{{person}}}",
            mark=mark,
        )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
