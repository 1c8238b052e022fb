"""The comparison after a load test: whatever one account lacks, has too much or has otherwise."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from tests.e2e.drill.bills import Bill
from tests.load.answers import Answer, AnswerFile
from tests.load.reconciliation import Accounts, Charge, Message

COST = Decimal("0.0000123000")
ANSWERS = [
    Answer(f"answer-{n}", "conversation", f"message-{n}", f"Code {n}.", 100 + n, COST * n)
    for n in (1, 2, 3)
]
LEDGER = {each.id: Charge(each.total_tokens, each.cost_usd) for each in ANSWERS}
CHAT_LOG = {
    each.message_id: Message(each.content, each.total_tokens, each.cost_usd) for each in ANSWERS
}
USAGE = Bill(3, 306, COST * 6)
ACCOUNTS = Accounts(ANSWERS, LEDGER, CHAT_LOG, USAGE)


def without(book: dict[str, object], key: str) -> dict[str, object]:
    return {each: book[each] for each in book if each != key}


def test_accounts_that_agree_have_no_difference() -> None:
    assert list(ACCOUNTS.differences()) == []


def test_people_who_were_answered_nothing_agree_with_empty_books() -> None:
    nothing = Accounts([], {}, {}, Bill(0, 0, Decimal(0)))
    assert list(nothing.differences()) == []


def test_an_answer_that_is_missing_in_the_ledger_is_a_difference() -> None:
    accounts = replace(ACCOUNTS, ledger=without(LEDGER, "answer-2"))
    assert list(accounts.differences()) == ["answer-2 is not in the ledger"]


def test_an_answer_that_is_missing_in_the_chat_log_is_a_difference() -> None:
    accounts = replace(ACCOUNTS, chat_log=without(CHAT_LOG, "message-3"))
    assert list(accounts.differences()) == ["message-3 is not in the chat log"]


def test_an_answer_that_is_missing_in_the_usage_is_a_difference() -> None:
    accounts = replace(ACCOUNTS, usage=Bill(2, 203, COST * 3))
    (difference,) = accounts.differences()
    assert difference.startswith("the usage shows Bill(messages=2, total_tokens=203")


def test_what_nobody_received_is_a_difference_in_every_book() -> None:
    accounts = replace(ACCOUNTS, received=ANSWERS[:2])
    assert [each.split(",")[0] for each in accounts.differences()] == [
        "the ledger has answer-3",
        "the chat log has message-3",
        "the usage shows Bill(messages=3",
    ]


@pytest.mark.parametrize(
    "charge", [Charge(102, COST), Charge(101, COST * 2 + Decimal("1e-10")), Charge(0, Decimal(0))]
)
def test_an_answer_that_costs_otherwise_in_the_ledger_is_a_difference(charge: Charge) -> None:
    accounts = replace(ACCOUNTS, ledger={**LEDGER, "answer-1": charge})
    (difference,) = accounts.differences()
    assert difference.startswith("the ledger has Charge(")
    assert difference.endswith(" for answer-1")


def test_an_answer_that_reads_otherwise_in_the_chat_log_is_a_difference() -> None:
    changed = replace(CHAT_LOG["message-1"], content="Code 2.")
    accounts = replace(ACCOUNTS, chat_log={**CHAT_LOG, "message-1": changed})
    (difference,) = accounts.differences()
    assert difference.startswith("the chat log has Message(content='Code 2.'")


def test_an_answer_that_arrived_twice_is_a_difference() -> None:
    accounts = replace(ACCOUNTS, received=[*ANSWERS, ANSWERS[0]])
    (difference,) = accounts.differences()
    assert "the usage shows" in difference


def test_answers_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = AnswerFile(tmp_path / "answers.jsonl")
    assert list(file.read()) == []
    for answer in ANSWERS:
        file.append("tenant", answer)
    assert list(file.read()) == [("tenant", answer) for answer in ANSWERS]
