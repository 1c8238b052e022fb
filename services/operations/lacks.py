"""What the stores lack of what the database knows, all of it told at once."""

from uuid import UUID

from planes.shared.errors import Conflict

_TOLD = 50


class Lacks:
    """Grows while stores are read, so that one damaged document does not hide the next."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._lines: list[str] = []
        self._count = 0

    def note(self, tenant_id: UUID, subject: str, lack: str) -> None:
        """Note that something of a tenant is not whole.

        Args:
            tenant_id: Whose it is.
            subject: What it is, with its id.
            lack: What is wrong with it.
        """
        self._count += 1
        if self._count <= _TOLD:
            self._lines.append(f"tenant {tenant_id}, {subject}: {lack}")

    def refuse(self) -> None:
        """Go on, unless something lacks.

        Raises:
            Conflict: It names what; of more than 50 the others are counted.
        """
        if not self._count:
            return
        more = [f"and {self._count - _TOLD} more"] if self._count > _TOLD else []
        raise Conflict(
            "\n".join(
                (
                    "The stores lack what the database knows, so this is no backup:",
                    *self._lines,
                    *more,
                    "Upload such a document again, or delete it, and delete such a conversation. "
                    "Where very much lacks, look whether CQL_KEYSPACE and the other settings of "
                    "stores name what the platform uses.",
                )
            )
        )
