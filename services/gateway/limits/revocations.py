"""What gateways tell one another when sessions end."""

from dataclasses import dataclass
from uuid import UUID

import orjson

REVOCATIONS = "revocations"  # the channel


@dataclass(frozen=True, slots=True)
class Revocation:
    """Sessions and API keys of one user that have ended.

    A `version` other than 0 says that tokens are void besides: all of the user's below it, or those
    of one membership.
    """

    user_id: UUID
    session_ids: frozenset[UUID]
    version: int

    def encoded(self) -> str:
        """Return it as one line of JSON."""
        message = {
            "user": str(self.user_id),
            "sessions": sorted(map(str, self.session_ids)),
            "version": self.version,
        }
        return orjson.dumps(message).decode()

    @classmethod
    def decoded(cls, message: bytes) -> "Revocation":
        """Return what a line of JSON says.

        Raises:
            ValueError: It says something else.
        """
        try:
            fields = orjson.loads(message)
            sessions = frozenset(map(UUID, fields["sessions"]))
            return cls(UUID(fields["user"]), sessions, int(fields["version"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("not a revocation") from error
