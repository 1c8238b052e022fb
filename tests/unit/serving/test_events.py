from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from planes.serving.admission import Admission
from planes.serving.agent.graph import Agent, build_graph
from planes.serving.agent.prompts import DECLINED
from planes.serving.agent.state import AgentTools, Progress
from planes.serving.events import answer_events
from planes.serving.generation.fitting import PromptRead
from planes.serving.retrieval.hybrid import Retrieved
from planes.shared.domain import ChatMode, FinishReason, SearchScope, TenantContext, new_id
from planes.shared.errors import NoLanguageModel, Unavailable
from planes.shared.ports import Generated, Prompt
from planes.shared.wire import AnswerRequest, ChatTurn, Done, Problem, Scope
from tests.fakes_serving import ScriptedGenerator, events_of, passage

HARBOUR = passage("The harbour opened in 1901.")
CONTEXT = TenantContext(new_id(), new_id())


@dataclass
class Shelf:
    """A retriever that always finds the same."""

    found: Retrieved = field(default_factory=lambda: Retrieved((HARBOUR,), 0.9))
    asked: list[tuple[str, SearchScope]] = field(default_factory=list)

    async def retrieve(self, question: str, *, scope: SearchScope, k: int) -> Retrieved:
        self.asked.append((question, scope))
        return Retrieved(self.found.passages[:k], self.found.closeness)


def request(**changes: object) -> AnswerRequest:
    values = {
        "answer_id": uuid4(),
        "message_id": uuid4(),
        "conversation_id": uuid4(),
        "message": "When did the old harbour of the town open?",
        "scope": Scope(generation=1),
        "max_prompt_tokens": 1000,
        "max_tokens": 100,
    }
    return AnswerRequest.model_validate(values | changes)


async def events(
    generator: ScriptedGenerator, shelf: Shelf | None = None, **changes: object
) -> list[tuple[int, str, dict[str, object]]]:
    agent = Agent(build_graph(), AgentTools(shelf or Shelf(), generator))
    return await events_by(agent, **changes)


async def events_by(agent: Agent, **changes: object) -> list[tuple[int, str, dict[str, object]]]:
    told = answer_events(agent, request(**changes), CONTEXT, admission=Admission(1))
    return events_of(b"".join([frame async for frame in told]).decode())


async def test_an_answer_begins_with_meta_and_ends_with_done() -> None:
    told = await events(ScriptedGenerator(["It opened ", "in 1901 [1]", "."]))
    assert [name for _, name, _ in told] == [
        *("meta", "step", "delta", "delta", "delta", "citation", "usage", "done"),
    ]
    assert [number for number, _, _ in told] == list(range(1, len(told) + 1))
    done = Done.model_validate(told[-1][2])
    assert done.content == "It opened in 1901 [1]."
    assert done.grounded
    assert done.finish_reason is FinishReason.STOP
    assert [citation.quote for citation in done.citations] == ["The harbour opened in 1901."]


class ForgetfulGenerator(ScriptedGenerator):
    """One whose prompt had no room for any passage."""

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Generated, None]:
        yield PromptRead("", 7, 0, passages=0)
        async for piece in super().generate(prompt):
            yield piece


async def test_a_passage_that_the_model_was_not_shown_is_not_cited() -> None:
    told = await events(ForgetfulGenerator(["It opened in 1901 [1]."]))
    done = Done.model_validate(told[-1][2])
    assert (done.citations, done.grounded) == ((), False)


async def test_the_tokens_of_the_prompt_are_told_before_the_first_text() -> None:
    told = await events(ForgetfulGenerator(["It opened."]))
    names = [name for _, name, _ in told]
    assert names.index("usage") < names.index("delta")
    assert told[names.index("usage")][2] == {"prompt_tokens": 7, "completion_tokens": 0}


async def test_usage_is_told_at_least_every_32_tokens() -> None:
    told = await events(ScriptedGenerator(["word "] * 100))
    since = 0
    for _, name, _ in told:
        since = 0 if name == "usage" else since + (name == "delta")
        assert since <= 32
    assert told[-2][1] == "usage"


async def test_an_answer_without_valid_citations_is_not_grounded() -> None:
    told = await events(ScriptedGenerator(["It opened in 1901 [7]."]))
    done = Done.model_validate(told[-1][2])
    assert (done.grounded, done.citations) == (False, ())


async def test_a_models_own_refusal_counts_as_declined() -> None:
    done = Done.model_validate((await events(ScriptedGenerator([DECLINED])))[-1][2])
    assert (done.grounded, done.finish_reason) == (False, FinishReason.DECLINED)


@pytest.mark.parametrize("found", [Retrieved((), 0.0), Retrieved((HARBOUR,), 0.1)])
async def test_nothing_near_the_question_is_declined_without_a_token(found: Retrieved) -> None:
    generator = ScriptedGenerator(["never"])
    told = await events(generator, Shelf(found))
    done = Done.model_validate(told[-1][2])
    assert (done.content, done.finish_reason) == (DECLINED, FinishReason.DECLINED)
    assert done.usage.completion_tokens == 0
    assert generator.prompts == []


async def test_a_failure_ends_the_stream_with_its_problem() -> None:
    told = await events(ScriptedGenerator(["It "], error=NoLanguageModel("none here")))
    assert [name for _, name, _ in told].count("done") == 0
    assert told[-1][1] == "error"
    problem = Problem.model_validate(told[-1][2])
    assert (problem.code, problem.status, problem.detail) == (
        *("no-language-model", 503, "none here"),
    )


async def test_an_unexpected_failure_is_opaque() -> None:
    told = await events(ScriptedGenerator([], error=RuntimeError("secret path")))
    assert told[-1][1] == "error"
    assert Problem.model_validate(told[-1][2]).code == "internal"
    assert "secret" not in str(told[-1])


async def test_a_generator_that_ends_without_a_reason_is_a_failure() -> None:
    told = await events(ScriptedGenerator(["It opened"], finish_reason=None))
    assert told[-1][1] == "error"


class FailingAfterwards(Agent):
    """One that breaks when the answer is whole."""

    async def answer(
        self, request: AnswerRequest, scope: SearchScope
    ) -> AsyncGenerator[Progress, None]:
        async for told in super().answer(request, scope):
            yield told
        raise RuntimeError("too late")


async def test_a_failure_after_the_whole_answer_changes_nothing() -> None:
    tools = AgentTools(Shelf(), ScriptedGenerator(["It opened in 1901 [1]."]))
    told = await events_by(FailingAfterwards(build_graph(), tools))
    assert [name for _, name, _ in told if name in {"done", "error"}] == ["done"]
    assert told[-1][1] == "done"


class Unfinished(Agent):
    """One that says nothing at all."""

    async def answer(
        self, request: AnswerRequest, scope: SearchScope
    ) -> AsyncGenerator[Progress, None]:
        del request, scope
        for told in ():
            yield told


async def test_an_answer_that_never_ends_is_a_failure() -> None:
    told = await events_by(Unfinished(build_graph(), AgentTools(Shelf(), ScriptedGenerator([]))))
    assert [name for _, name, _ in told] == ["meta", "error"]


async def test_an_answer_has_its_place_from_its_first_event_to_its_last() -> None:
    admission = Admission(1)
    agent = Agent(build_graph(), AgentTools(Shelf(), ScriptedGenerator(["Yes."])))
    answer = answer_events(agent, request(), CONTEXT, admission=admission)
    await anext(answer)
    with pytest.raises(Unavailable):
        await anext(answer_events(agent, request(), CONTEXT, admission=admission))
    assert [frame async for frame in answer]
    assert admission.answers == 0


async def test_open_chat_retrieves_nothing() -> None:
    shelf = Shelf()
    told = await events(ScriptedGenerator(["Hello."]), shelf, mode=ChatMode.OPEN)
    assert [name for _, name, _ in told] == ["meta", "delta", "usage", "done"]
    assert shelf.asked == []


async def test_a_follow_up_is_retrieved_with_the_words_of_the_question_before() -> None:
    shelf, generator = Shelf(), ScriptedGenerator(["Yes [1]."])
    history = (ChatTurn(role="user", content="When did the harbour open?"),)
    await events(generator, shelf, message="Who built it?", history=history)
    assert "harbour" in shelf.asked[0][0]
    assert generator.prompts[0].history == history


async def test_the_tenant_comes_from_the_token() -> None:
    shelf = Shelf()
    await events(ScriptedGenerator(["Yes."]), shelf)
    assert shelf.asked[0][1].tenant_id == CONTEXT.tenant_id


async def test_hanging_up_stops_the_generator() -> None:
    generator = ScriptedGenerator(["word "] * 1000)
    agent = Agent(build_graph(), AgentTools(Shelf(), generator))
    frames = answer_events(agent, request(), CONTEXT, admission=Admission(1))
    async for frame in frames:
        if b"event: delta" in frame:
            break
    await frames.aclose()
    assert generator.is_closed
