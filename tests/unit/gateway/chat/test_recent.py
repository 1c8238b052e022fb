"""Which messages of conversations are known without reading them."""

from uuid import UUID, uuid4

import pytest

from services.gateway.chat.recent import RecentTurns


class Clock:
    """Seconds that pass when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recent(clock: Clock) -> RecentTurns:
    return RecentTurns(clock)


def told(recent: RecentTurns, conversation: UUID, exchanges: int, *, words: str = "") -> UUID:
    """Add so many exchanges from the beginning, and return the id of the last answer."""
    answer_id = uuid4()
    for number in range(exchanges):
        answer_id = uuid4()
        recent.add(
            conversation,
            seq=2 * number + 1,
            question=f"question {number}{words}",
            answer=f"answer {number}",
            answer_id=answer_id,
        )
    return answer_id


def contents(
    recent: RecentTurns, conversation: UUID, *, seq: int, last_answer: UUID | None, limit: int = 10
) -> list[str] | None:
    turns = recent.before(conversation, seq=seq, limit=limit, last_answer=last_answer)
    return None if turns is None else [turn.content for turn in turns]


def test_what_was_asked_and_answered_here_is_known(recent: RecentTurns) -> None:
    conversation = uuid4()
    last = told(recent, conversation, 2)
    assert contents(recent, conversation, seq=5, last_answer=last, limit=3) == [
        "answer 0",
        "question 1",
        "answer 1",
    ]


def test_an_exchange_elsewhere_is_noticed(recent: RecentTurns) -> None:
    conversation = uuid4()
    told(recent, conversation, 2)
    assert contents(recent, conversation, seq=7, last_answer=uuid4()) is None
    recent.add(conversation, seq=7, question="4th", answer="4th", answer_id=uuid4())
    assert contents(recent, conversation, seq=9, last_answer=uuid4()) is None


def test_an_answer_that_was_replaced_elsewhere_is_noticed(recent: RecentTurns) -> None:
    conversation = uuid4()
    told(recent, conversation, 2)
    newer = uuid4()
    assert contents(recent, conversation, seq=5, last_answer=newer) is None
    recent.add(conversation, seq=5, question="3rd", answer="3rd", answer_id=newer)
    assert contents(recent, conversation, seq=7, last_answer=newer) is None


def test_a_question_without_an_answer_is_noticed(recent: RecentTurns) -> None:
    conversation = uuid4()
    told(recent, conversation, 1)
    assert contents(recent, conversation, seq=4, last_answer=None) is None


def test_more_than_is_known_is_not_made_up(recent: RecentTurns) -> None:
    conversation, last = uuid4(), uuid4()
    recent.keep(conversation, (), numbers=(11, 20), last_answer=last)
    assert contents(recent, conversation, seq=21, last_answer=last, limit=10) == []
    assert contents(recent, conversation, seq=21, last_answer=last, limit=11) is None


def test_only_the_last_twenty_messages_are_known(recent: RecentTurns) -> None:
    conversation = uuid4()
    last = told(recent, conversation, 30)
    assert contents(recent, conversation, seq=61, last_answer=last, limit=21) is None
    known = contents(recent, conversation, seq=61, last_answer=last, limit=20)
    assert known is not None
    assert (len(known), known[0]) == (20, "question 20")


def test_answers_without_words_are_passed_over(recent: RecentTurns) -> None:
    conversation, last = uuid4(), uuid4()
    recent.add(conversation, seq=1, question="Call it.", answer="", answer_id=last)
    assert contents(recent, conversation, seq=3, last_answer=last) == ["Call it."]


def test_it_is_forgotten_after_ten_minutes(recent: RecentTurns, clock: Clock) -> None:
    conversation = uuid4()
    last = told(recent, conversation, 1)
    clock.now = 601
    assert contents(recent, conversation, seq=3, last_answer=last) is None


def test_a_deleted_conversation_is_forgotten(recent: RecentTurns) -> None:
    conversation = uuid4()
    last = told(recent, conversation, 1)
    recent.forget(conversation)
    assert contents(recent, conversation, seq=3, last_answer=last) is None


def test_long_conversations_push_out_the_oldest(recent: RecentTurns) -> None:
    first, last_of_first = uuid4(), uuid4()
    recent.add(first, seq=1, question="Why?", answer="So.", answer_id=last_of_first)
    newest, last = first, last_of_first
    for _ in range(13):
        newest = uuid4()
        last = told(recent, newest, 1, words="x" * 999_000)
    assert contents(recent, first, seq=3, last_answer=last_of_first) is None
    assert contents(recent, newest, seq=3, last_answer=last) is not None
