"""What makes access tokens outdated: two numbers that only rise, in one claim."""

from dataclasses import dataclass
from typing import Self

_USER_BITS = 24


@dataclass(frozen=True, slots=True)
class Version:
    """A token's version (claim `sv`); a token is void once either number is above its own.

    Attributes:
        user: Raised by whatever ends all tokens of a person, in every tenant.
        membership: Raised by whatever ends those in one tenant; no membership, a renewed one
            included, ever has a number again that was given before.
    """

    user: int = 0
    membership: int = 0

    @property
    def claim(self) -> int:
        """Both as one integer, which rises when either does; below 2^53, as JSON numbers are."""
        return self.membership << _USER_BITS | self.user

    @classmethod
    def of_claim(cls, claim: int) -> Self:
        """Return the two numbers of a claim."""
        return cls(user=claim & (1 << _USER_BITS) - 1, membership=claim >> _USER_BITS)
