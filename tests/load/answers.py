"""What people were answered, written while they ask, read when the books are compared."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that arrived whole, or that a book holds.

    Attributes:
        id: Of the answer, by which it is billed.
        message_id: Of its message, by which the chat log has it.
        cost_usd: To the last digit.
    """

    id: str
    conversation_id: str
    message_id: str
    content: str
    total_tokens: int
    cost_usd: Decimal

    @classmethod
    def of(cls, body: dict[str, Any], content: str) -> Self:
        """Read what `POST /chat`, or the event `done`, says.

        Raises:
            KeyError: A member is missing.
        """
        usage = body["usage"]
        return cls(
            id=body["id"],
            conversation_id=body["conversation_id"],
            message_id=body["message"]["id"],
            content=content,
            total_tokens=usage["total_tokens"],
            cost_usd=Decimal(usage["cost_usd"]),
        )


class AnswerFile:
    """A file with a line of JSON for each answer."""

    def __init__(self, path: Path) -> None:
        """Store where it is; `append` makes it."""
        self._path = path

    def append(self, tenant_id: str, answer: Answer) -> None:
        """Add what somebody of a tenant was answered."""
        line = {"tenant_id": tenant_id, **asdict(answer), "cost_usd": str(answer.cost_usd)}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def read(self) -> Iterator[tuple[str, Answer]]:
        """Yield tenants and their answers; none where nobody was answered."""
        if not self._path.exists():
            return
        with self._path.open(encoding="utf-8") as file:
            for line in file:
                values = json.loads(line)
                tenant_id = values.pop("tenant_id")
                yield tenant_id, Answer(**{**values, "cost_usd": Decimal(values["cost_usd"])})
