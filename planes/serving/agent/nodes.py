"""The steps of an answer. Each reads the state, tells its progress and returns what it adds."""

import re
from contextlib import aclosing
from typing import Literal

from langgraph.runtime import Runtime

from planes.serving.agent.citations import CitationTracker
from planes.serving.agent.prompts import DECLINED
from planes.serving.agent.state import (
    AgentState,
    AgentTools,
    Answer,
    Cited,
    StepTaken,
    TextAdded,
    TokensSpent,
)
from planes.serving.generation.fitting import PromptRead
from planes.shared.analysis import detect_language, terms
from planes.shared.domain import ChatMode, FinishReason
from planes.shared.errors import Unavailable
from planes.shared.ports import Prompt
from planes.shared.wire import ChatTurn, Usage

_USAGE_EVERY_TOKENS = 16
_MIN_CLOSENESS = 0.25
_FEW_TERMS = 2
_REFERS_BACK = re.compile(
    r"\b(?:it|its|they|them|their|theirs|he|him|his|she|her|hers|this|that|these|those|there|then|"
    r"one|ones|former|latter|same|else)\b|^(?:and|but|so|or|what about|how about)\b",
    re.IGNORECASE,
)


def route(state: AgentState) -> Literal["condense", "generate"]:
    """Choose the path: open chat needs no documents."""
    return "condense" if state["mode"] is ChatMode.RAG else "generate"


async def condense(state: AgentState) -> AgentState:
    """Write `question`, which stands without the history.

    A follow-up is joined with the content words of the question before it.
    """
    return {"question": standalone_question(state["message"], state["history"])}


def standalone_question(message: str, history: tuple[ChatTurn, ...]) -> str:
    """Return `message`, joined with the previous question's content words where it refers to it."""
    earlier = [turn.content for turn in history if turn.role == "user"]
    if not earlier:
        return message
    language = detect_language(f"{earlier[-1]}\n{message}")
    own = set(terms(message, language))
    if not (_REFERS_BACK.search(message) or len(own) <= _FEW_TERMS):
        return message
    words = re.findall(r"\w[\w'\u2019-]*", earlier[-1])
    carried = [word for word in words if (term := terms(word, language)) and not own & set(term)]
    return f"{message} ({' '.join(dict.fromkeys(carried))})" if carried else message


async def retrieve(state: AgentState, runtime: Runtime[AgentTools]) -> AgentState:
    """Write `passages`: at most `top_k`, best first, of the caller's tenant only."""
    runtime.stream_writer(StepTaken("retrieve"))
    found = await runtime.context.retriever.retrieve(
        state["question"], scope=state["scope"], k=state["top_k"]
    )
    return {"passages": found.passages, "is_useful": found.closeness >= _MIN_CLOSENESS}


def judge(state: AgentState) -> Literal["generate", "decline"]:
    """Decline where no passage is near the question, before any token is spent."""
    return "generate" if state["passages"] and state["is_useful"] else "decline"


async def decline(state: AgentState, runtime: Runtime[AgentTools]) -> AgentState:
    """Write the `answer` that nothing was found."""
    del state
    runtime.stream_writer(TextAdded(DECLINED, completion_tokens=0))
    usage = Usage(prompt_tokens=0, completion_tokens=0)
    return {"answer": Answer(DECLINED, (), FinishReason.DECLINED, usage)}


async def generate(state: AgentState, runtime: Runtime[AgentTools]) -> AgentState:
    """Write `answer`, telling its text, its citations and its tokens while it grows."""
    prompt = _prompt(state)
    tracker = CitationTracker(prompt.passages)
    pieces: list[str] = []
    told, usage, finish_reason = 0, Usage(prompt_tokens=0, completion_tokens=0), None
    async with aclosing(runtime.context.generator.generate(prompt)) as generated:
        async for piece in generated:
            if isinstance(piece, PromptRead):
                tracker = CitationTracker(prompt.passages[: piece.passages])
                # before any text, so that an answer broken off early is billed for its prompt
                runtime.stream_writer(
                    TokensSpent(Usage(prompt_tokens=piece.prompt_tokens, completion_tokens=0))
                )
            if piece.text:
                pieces.append(piece.text)
                runtime.stream_writer(TextAdded(piece.text, piece.completion_tokens))
                for citation in tracker.feed(piece.text):
                    runtime.stream_writer(Cited(citation))
            usage = Usage(
                prompt_tokens=piece.prompt_tokens, completion_tokens=piece.completion_tokens
            )
            is_last = piece.finish_reason is not None
            if usage.completion_tokens - told >= _USAGE_EVERY_TOKENS and not is_last:
                told = usage.completion_tokens
                runtime.stream_writer(TokensSpent(usage))
            finish_reason = piece.finish_reason or finish_reason
    if finish_reason is None:
        raise Unavailable("The language model ended its answer without saying why. Try again.")
    content = "".join(pieces)
    return {"answer": Answer(content, tuple(tracker.citations), finish_reason, usage)}


async def verify(state: AgentState, runtime: Runtime[AgentTools]) -> AgentState:
    """Finish `answer`: grounded only with a checked citation, declined where the model said so."""
    answer = state["answer"]
    has_declined = answer.finish_reason is FinishReason.DECLINED or (
        not answer.citations and DECLINED.rstrip(".") in answer.content
    )
    checked = Answer(
        answer.content,
        answer.citations,
        FinishReason.DECLINED if has_declined else answer.finish_reason,
        answer.usage,
        grounded=bool(answer.citations) and not has_declined,
    )
    runtime.stream_writer(TokensSpent(checked.usage))
    runtime.stream_writer(checked)
    return {"answer": checked}


def _prompt(state: AgentState) -> Prompt:
    return Prompt(
        question=state["message"],
        standalone=state.get("question", state["message"]),
        mode=state["mode"],
        passages=state.get("passages", ()),
        history=state["history"],
        max_prompt_tokens=state["max_prompt_tokens"],
        max_tokens=state["max_tokens"],
        wishes=state.get("wishes", ""),
    )
