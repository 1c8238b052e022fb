import pytest

from planes.serving.agent.follow_ups import standalone_question
from planes.shared.wire import ChatTurn

HISTORY = (
    ChatTurn(role="user", content="When did the Forth harbour open?"),
    ChatTurn(role="assistant", content="It opened in 1901."),
)


@pytest.mark.parametrize("question", ["Who built it?", "And the cranes?", "Why?"])
def test_a_follow_up_carries_the_content_words_of_the_question_before(question: str) -> None:
    joined = standalone_question(question, HISTORY)
    assert joined.startswith(question)
    assert "Forth" in joined
    assert "harbour" in joined
    assert "the Forth" not in joined


def test_a_question_that_stands_alone_is_left_alone() -> None:
    question = "Which countries border the Kingdom of Norway today?"
    assert standalone_question(question, HISTORY) == question


def test_the_first_question_has_nothing_to_carry() -> None:
    assert standalone_question("Who built it?", ()) == "Who built it?"
