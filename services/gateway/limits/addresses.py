"""Limits for calls without credentials: so many a minute from one address."""

import ipaddress

from services.gateway.limits.rates import LocalRates, Rate, Rates
from services.gateway.limits.scripts import RedisScripts, RedisUnavailable


class AddressRates:
    """Counts calls per address, or per /64 where it is IPv6: one person has that many."""

    def __init__(self, scripts: RedisScripts, local_rates: LocalRates) -> None:
        """Store the scripts, and what counts while Redis does not answer."""
        self._scripts = scripts
        self._local_rates = local_rates

    async def take(self, policy: str, address: str, per_minute: int) -> Rates:
        """Count one call; `Rates.check` tells whether it may pass.

        Raises:
            RedisUnavailable: Nothing can be counted.
        """
        key = f"address:{policy}:{network_of(address)}"
        remaining, reset_us, wait_us = await self._scripts.run("rate", [key], per_minute)
        return Rates((Rate(policy, per_minute, remaining, reset_us / 1e6, wait_us / 1e6),))

    async def take_or_count_here(self, policy: str, address: str, per_minute: int) -> Rates:
        """As `take`; while Redis does not answer the process counts."""
        try:
            return await self.take(policy, address, per_minute)
        except RedisUnavailable:
            key = ("address", network_of(address))
            return self._local_rates.take(key, [(policy, per_minute)])


def network_of(address: str) -> str:
    """Return the address, or its /64 where it is IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    mapped = parsed.ipv4_mapped
    return str(mapped or ipaddress.ip_network((parsed.packed, 64), strict=False).network_address)
