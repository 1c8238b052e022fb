"""Answers, usage, ledger and chat log of a load test say the same, to the last digit.

Afterwards nothing is asked any more, so every account of an answer has come to rest: what a person
received stands in the chat log word for word and in the ledger at its price, nothing else does, and
`GET /billing/usage` shows the sum.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from tests.e2e.drill.bills import Bill
from tests.load.answers import Answer


@dataclass(frozen=True, slots=True)
class Charge:
    """An answer in the ledger."""

    total_tokens: int
    cost_usd: Decimal


@dataclass(frozen=True, slots=True)
class Message:
    """An answer in the chat log."""

    content: str
    total_tokens: int
    cost_usd: Decimal


@dataclass(frozen=True, slots=True)
class Accounts:
    """All accounts of one tenant's answers.

    Attributes:
        received: By who asked, complete and in any order.
        ledger: By the answers' ids.
        chat_log: By the messages' ids.
        usage: As the public API shows it.
    """

    received: Sequence[Answer]
    ledger: Mapping[str, Charge]
    chat_log: Mapping[str, Message]
    usage: Bill

    def differences(self) -> Iterator[str]:
        """Name every answer that an account lacks, has too much or has otherwise."""
        charges = {each.id: Charge(each.total_tokens, each.cost_usd) for each in self.received}
        yield from _compared("ledger", charges, self.ledger)
        messages = {
            each.message_id: Message(each.content, each.total_tokens, each.cost_usd)
            for each in self.received
        }
        yield from _compared("chat log", messages, self.chat_log)
        bill = Bill.of((each.total_tokens, each.cost_usd) for each in self.received)
        if self.usage != bill:
            yield f"the usage shows {self.usage}, and the answers come to {bill}"


def _compared(
    book: str, received: Mapping[str, object], kept: Mapping[str, object]
) -> Iterator[str]:
    """Name what a book lacks, what it has and nobody received, and what it has otherwise."""
    yield from (f"{one} is not in the {book}" for one in sorted(received.keys() - kept.keys()))
    yield from (
        f"the {book} has {one}, which nobody received"
        for one in sorted(kept.keys() - received.keys())
    )
    for one in sorted(received.keys() & kept.keys()):
        if received[one] != kept[one]:
            yield f"the {book} has {kept[one]} instead of {received[one]} for {one}"
