"""The steps of an answer. Each reads the state, tells its progress and returns what it adds."""

import re
from contextlib import suppress
from typing import Literal

from langgraph.runtime import Runtime

from planes.serving.agent.asides import rewritten_question, summary_of
from planes.serving.agent.calculator import NotArithmetic, asked_for, calculate
from planes.serving.agent.client_tools import has_client_tools
from planes.serving.agent.follow_ups import other_reading, standalone_question
from planes.serving.agent.grounding import unsupported_spans
from planes.serving.agent.prompts import DECLINED
from planes.serving.agent.state import (
    AgentState,
    AgentTools,
    Answer,
    Draft,
    StepTaken,
    TextAdded,
    TokensSpent,
)
from planes.serving.tracing import note
from planes.shared.domain import ChatMode, FinishReason
from planes.shared.errors import Unavailable

_MIN_CLOSENESS = 0.25
_WINDOW_TURNS = 10
_UNTOLD_TURNS = 4  # so that the next summary is due four questions later
_SMALL_TALK = re.compile(
    r"\W*(?:hi|hello|hey|good (?:morning|afternoon|evening)|thanks|thank you|thank you very much|"
    r"many thanks|bye|goodbye)(?: there| everyone)?\W*",
    re.IGNORECASE,
)


async def window(state: AgentState, runtime: Runtime[AgentTools]) -> AgentState:
    """Keep the last ten messages in `history`; a language model tells of older ones in `summary`.

    It is asked once for several messages: where more than ten are in no summary yet, it sums up all
    but the last four of them. The tokens of what is kept are bounded later, by the generator's own
    tokenizer.
    """
    history, draft = state["history"], Draft()
    summary, summary_seq = state["earlier_summary"], state["earlier_summary_seq"]
    untold = [turn for turn in history if turn.seq > summary_seq]
    if len(untold) > _WINDOW_TURNS and runtime.context.is_language_model:
        leaving = untold[:-_UNTOLD_TURNS]
        runtime.stream_writer(StepTaken("summarise", f"{len(leaving)} messages"))
        with suppress(Unavailable):  # the next question asks again; this one is answered
            summary = await summary_of(state | {"draft": draft}, leaving, runtime)
        is_new = summary != state["earlier_summary"]
        summary_seq = leaving[-1].seq if is_new else summary_seq
    return {
        "question": state["message"],
        "history": history[-_WINDOW_TURNS:],
        "summary": summary,
        "summary_seq": summary_seq,
        "draft": draft,
    }


def route(
    state: AgentState, runtime: Runtime[AgentTools]
) -> Literal["condense", "retrieve", "generate", "compute"]:
    """Choose the path: sums need no documents, nor do open chat and greetings.

    A language model does sums with its tools, and greets back; without one a greeting is a question
    to the documents like any other. Without a history a question stands for itself.
    """
    is_written = runtime.context.is_language_model
    if not is_written and asked_for(state["message"]):
        return "compute"
    is_chat = state["mode"] is ChatMode.OPEN
    is_greeting = is_written and _SMALL_TALK.fullmatch(state["message"]) is not None
    if is_chat or is_greeting:
        return "generate"
    return "condense" if state["history"] else "retrieve"


async def compute(state: AgentState, runtime: Runtime[AgentTools]) -> AgentState:
    """Write the `answer` to a sum."""
    expression = asked_for(state["message"]) or ""
    runtime.stream_writer(StepTaken("tool", "calculator"))
    try:
        text = f"{expression} = {calculate(expression)}"
    except NotArithmetic as error:
        text = str(error)
    runtime.stream_writer(TextAdded(text, completion_tokens=0))
    state["draft"].content, state["draft"].finish_reason = text, FinishReason.STOP
    return {}


async def condense(state: AgentState, runtime: Runtime[AgentTools]) -> AgentState:
    """Write `question`, which stands without the history.

    A follow-up is joined with the content words of the question before it.
    """
    question = standalone_question(state["message"], state["history"])
    if question != state["message"]:
        runtime.stream_writer(StepTaken("condense"))
    return {"question": question}


async def retrieve(state: AgentState, runtime: Runtime[AgentTools]) -> AgentState:
    """Write `passages`: at most `top_k`, best first, of the caller's tenant only.

    A language model reads the best ones with their neighbours.
    """
    runtime.stream_writer(StepTaken("retrieve"))
    found = await runtime.context.retriever.retrieve(
        state["question"], scope=state["scope"], k=state["top_k"]
    )
    note(passages=len(found.passages))
    if not found.is_reranked:
        runtime.stream_writer(StepTaken("rerank", "late"))
    passages, neighbours = found.passages, runtime.context.neighbours
    if neighbours is not None:
        passages = await neighbours.expand(passages, state["scope"])
    return {"passages": passages, "is_useful": found.closeness >= _MIN_CLOSENESS}


def judge(
    state: AgentState, runtime: Runtime[AgentTools]
) -> Literal["generate", "rewrite", "decline"]:
    """Go on with passages near the question; else ask once more in other words, or decline.

    The measure is the highest cosine of a passage with the question, whatever the ranking's scale.
    What the documents do not hold, the caller's own tools may.
    """
    if has_client_tools(state) or (state["passages"] and state["is_useful"]):
        return "generate"
    if state.get("is_rewritten"):
        return "decline"
    other = other_reading(state["message"], state["question"], state["history"])
    can_rewrite = runtime.context.is_language_model or other != state["question"]
    return "rewrite" if can_rewrite else "decline"


async def rewrite(state: AgentState, runtime: Runtime[AgentTools]) -> AgentState:
    """Write another `question`: a language model's words, or the other reading of a follow-up."""
    runtime.stream_writer(StepTaken("rewrite"))
    if runtime.context.is_language_model:
        question = await rewritten_question(state, runtime)
    else:
        question = other_reading(state["message"], state["question"], state["history"])
    return {"question": question, "is_rewritten": True}


async def decline(state: AgentState, runtime: Runtime[AgentTools]) -> AgentState:
    """Write the answer that nothing was found."""
    runtime.stream_writer(StepTaken("decline"))
    runtime.stream_writer(TextAdded(DECLINED, state["draft"].usage.completion_tokens))
    state["draft"].content, state["draft"].finish_reason = DECLINED, FinishReason.DECLINED
    return {}


async def verify(state: AgentState, runtime: Runtime[AgentTools]) -> AgentState:
    """Finish `answer`: grounded only with a checked citation, declined where the model said so.

    Sentences of an answer from documents that no checked citation supports are marked.
    """
    draft = state["draft"]
    has_declined = draft.finish_reason is FinishReason.DECLINED or (
        not draft.citations and not draft.calls and DECLINED.rstrip(".") in draft.content
    )
    sources = [*state.get("passages", ()), *state.get("looked_up", ())]
    read = (chunk.text for passage in sources for chunk in passage.read)
    texts = [state["message"], *read]
    unsupported = unsupported_spans(draft.content, draft.supported, texts)
    answer = Answer(
        draft.content,
        tuple(draft.citations),
        FinishReason.DECLINED if has_declined else _finish_reason(draft),
        draft.usage,
        grounded=bool(draft.citations) and not has_declined,
        unsupported=unsupported if sources and not has_declined else (),
        summary=state["summary"] if state["summary_seq"] > state["earlier_summary_seq"] else None,
        summary_seq=state["summary_seq"],
        tool_calls=draft.calls,
    )
    note(citations=len(answer.citations), unsupported=len(answer.unsupported))
    runtime.stream_writer(TokensSpent(answer.usage))
    runtime.stream_writer(answer)
    return {"answer": answer}


def _finish_reason(draft: Draft) -> FinishReason:
    """Return why the generator ended: calls of the caller's tools are whole unless it was cut."""
    reason = draft.finish_reason or FinishReason.STOP
    return FinishReason.TOOL_CALLS if draft.calls and reason is FinishReason.STOP else reason
