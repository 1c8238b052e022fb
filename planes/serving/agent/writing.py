"""The steps in which the generator writes, and calls tools in between."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Literal

from langgraph.runtime import Runtime

from planes.serving.agent.citations import CitationTracker
from planes.serving.agent.client_tools import has_client_tools, offered_tools
from planes.serving.agent.inert import InertText
from planes.serving.agent.prompts import exchanges_of, told_back
from planes.serving.agent.state import (
    AgentState,
    AgentTools,
    Cited,
    Draft,
    StepTaken,
    TextAdded,
    TokensSpent,
    ToolCalled,
)
from planes.serving.generation.fitting import PromptRead
from planes.serving.generation.tool_calls import UNREADABLE
from planes.serving.tracing import note, note_event
from planes.shared.domain import ChatMode, FinishReason, Passage
from planes.shared.errors import InvalidInput, Unavailable
from planes.shared.ports import Generated, Prompt, Tool, ToolExchange

_USAGE_EVERY_TOKENS = 16
_MAX_ROUNDS = 3
_MAX_CALLS = 4  # in a round
_CHARS_A_TOKEN = 3
_TOKENS_A_CALL = 64
_LEAST_RESULT_CHARS = 200


async def generate(state: AgentState, runtime: Runtime[AgentTools]) -> AgentState:
    """Let `draft` grow by one call of the generator, telling text, citations and tokens.

    A call that offers tools reads at most half of what is left of the prompt's tokens, so that
    there is room to read again with the results. One that writes nothing and calls nothing is
    followed by one without tools. The caller's own tools are not ours to leave out.

    Raises:
        InvalidInput: The question does not fit, or not with the caller's tools.
        Unavailable: The language model does not answer, breaks off, or writes nothing.
    """
    draft, offered = state["draft"], _offered(state, runtime.context)
    has_written = False
    if has_client_tools(state):
        await _Writing(state, runtime, offered_tools(state)).run()
        has_written = True
    elif offered:
        with suppress(InvalidInput):  # no room for tools beside the question: it was not written
            await _Writing(state, runtime, offered).run()
            has_written = bool(draft.calls or draft.written.strip()) or not _may_write_on(state)
    if not has_written:
        await _Writing(state, runtime, ()).run()
    if not (has_client_tools(state) or _may_write_on(state)):
        draft.calls = ()  # of our tools: no token is left to tell what they say
    if draft.finish_reason is FinishReason.STOP and not (draft.calls or draft.content.strip()):
        raise Unavailable("The language model wrote no answer. Try again in other words.")
    return {}


def after_writing(
    state: AgentState, runtime: Runtime[AgentTools]
) -> Literal["use_tools", "verify"]:
    """Go on where the generator wants to know something that our tools find out."""
    del runtime
    return "use_tools" if state["draft"].calls and not has_client_tools(state) else "verify"


async def use_tools(state: AgentState, runtime: Runtime[AgentTools]) -> AgentState:
    """Write the results of the generator's calls, with what of them may be cited."""
    draft, toolbox = state["draft"], runtime.context.toolbox
    calls, draft.calls = draft.calls[:_MAX_CALLS], ()
    if toolbox is None:
        raise Unavailable("The language model called a tool where there is none.")
    names = {tool.name for tool in toolbox.offered(state["mode"])}
    looked_up = list(state.get("looked_up", ()))
    room = _room(state) // len(calls)
    results: list[str] = []
    for call in calls:
        runtime.stream_writer(StepTaken("tool", call.name if call.name in names else "unknown"))
        result = await toolbox.use(
            call,
            state["scope"],
            mode=state["mode"],
            first_number=len(state.get("passages", ())) + len(looked_up) + 1,
        )
        looked_up += result.passages
        results.append(result.text[:room])
    calls = tuple(map(told_back, calls))
    exchange = ToolExchange(draft.written, calls, tuple(results))
    return {
        "exchanges": (*state.get("exchanges", ()), exchange),
        "looked_up": tuple(looked_up),
    }


def _offered(state: AgentState, tools: AgentTools) -> Sequence[Tool]:
    """Return the tools for this call: none where the rounds or the prompt's tokens are used up."""
    if tools.toolbox is None or len(state.get("exchanges", ())) >= _MAX_ROUNDS:
        return ()
    draft = state["draft"]
    is_room_left = _left(state) // 2 > draft.last_prompt_tokens * 5 // 4
    return tools.toolbox.offered(state["mode"]) if is_room_left else ()


def _may_write_on(state: AgentState) -> bool:
    return state["draft"].usage.completion_tokens < state["max_tokens"]


def _left(state: AgentState) -> int:
    return state["max_prompt_tokens"] - state["draft"].usage.prompt_tokens


def _room(state: AgentState) -> int:
    """Return how many characters of results the next prompt has room for."""
    tokens = _left(state) - state["draft"].last_prompt_tokens - _MAX_CALLS * _TOKENS_A_CALL
    return max(_CHARS_A_TOKEN * tokens, _MAX_CALLS * _LEAST_RESULT_CHARS)


class _Writing:
    """One call of the generator."""

    def __init__(
        self, state: AgentState, runtime: Runtime[AgentTools], offered: Sequence[Tool]
    ) -> None:
        """Store what is written to, and what the call reads."""
        self._draft: Draft = state["draft"]
        self._tell = runtime.stream_writer
        self._generator = runtime.context.generator
        self._looked_up: Sequence[Passage] = state.get("looked_up", ())
        self._prompt = _prompt(state, offered)
        read = _read(self._prompt, state)
        self._inert, self._inert_thought = InertText(read), InertText(read)
        self._tracker = CitationTracker([*self._prompt.passages, *self._looked_up])
        self._draft.begins_at = len(self._draft.content)
        self._is_callers = has_client_tools(state)
        self._before = self._draft.usage
        self._told = self._before.completion_tokens

    async def run(self) -> None:
        """Read the generator to its end.

        Raises:
            InvalidInput: The question does not fit.
            Unavailable: The generator does not answer, or breaks off.
        """
        generated: AsyncGenerator[Generated, None] = self._generator.generate(self._prompt)
        self._draft.finish_reason = None
        async with aclosing(generated) as pieces:
            async for piece in pieces:
                self._count(piece)
                self._show(piece)
        self._note_span()
        if self._draft.finish_reason is None:
            raise Unavailable("The language model ended its answer without saying why. Try again.")
        begins_at = self._draft.begins_at
        self._draft.supported += [
            (begins_at + start, begins_at + end) for start, end in self._tracker.supported
        ]

    def _note_span(self) -> None:
        spent = self._draft.usage
        note(
            model=self._generator.model,
            prompt_tokens=spent.prompt_tokens - self._before.prompt_tokens,
            completion_tokens=spent.completion_tokens - self._before.completion_tokens,
            calls=len(self._draft.calls),
        )

    def _count(self, piece: Generated) -> None:
        draft = self._draft
        draft.usage = self._before.plus(piece.prompt_tokens, piece.completion_tokens)
        draft.last_prompt_tokens = piece.prompt_tokens
        draft.finish_reason = piece.finish_reason or draft.finish_reason
        calls = [call for n, call in enumerate(piece.tool_calls) if self._takes(n, call.name)]
        draft.calls = tuple(calls) or draft.calls
        if isinstance(piece, PromptRead):
            shown = self._prompt.passages[: piece.passages]
            unseen = [None] * (len(self._prompt.passages) - len(shown))
            self._tracker = CitationTracker([*shown, *unseen, *self._looked_up])
            # before any text, so that an answer broken off early is billed for its prompt
            self._tell(TokensSpent(draft.usage))

    def _show(self, piece: Generated) -> None:
        is_last = piece.finish_reason is not None
        thought = self._inert_thought.feed(_storable(piece.thinking))
        if piece.text or is_last:
            thought += self._inert_thought.finish()
        if thought:
            self._tell(StepTaken("think", thought))
        text = self._inert.feed(_storable(piece.text))
        if is_last:
            text += self._inert.finish()
        if text:
            self._add(text)
        if self._is_callers:
            for part in piece.call_pieces:
                if self._takes(part.index, part.name):
                    self._tell(ToolCalled(replace(part, arguments=_storable(part.arguments))))
        if self._draft.usage.completion_tokens - self._told >= _USAGE_EVERY_TOKENS and not is_last:
            self._told = self._draft.usage.completion_tokens
            self._tell(TokensSpent(self._draft.usage))

    def _takes(self, place: int, name: str | None) -> bool:
        """Whether a call counts: of our tools, if they were offered; the caller's as asked for."""
        if not self._prompt.tools or not self._is_callers:
            return bool(self._prompt.tools)
        return (place == 0 or self._prompt.in_parallel) and name != UNREADABLE

    def _add(self, text: str) -> None:
        draft = self._draft
        if not draft.written:
            note_event("first text")
        gap = "\n\n" if draft.begins_at and not draft.written else ""
        draft.begins_at += len(gap)
        draft.content += gap + text
        self._tell(TextAdded(gap + text, draft.usage.completion_tokens))
        for citation in self._tracker.feed(text):
            if citation not in draft.citations:  # an earlier call may have told it
                draft.citations.append(citation)
                self._tell(Cited(citation))


def _prompt(state: AgentState, offered: Sequence[Tool]) -> Prompt:
    left = _left(state)
    client = state.get("client_tools")
    is_read_again = bool(offered) and client is None
    return Prompt(
        question=state["message"],
        standalone=state.get("question", state["message"]),
        mode=state["mode"],
        passages=state.get("passages", ()),
        history=state["history"],
        max_prompt_tokens=left // 2 if is_read_again else left,
        max_tokens=state["max_tokens"] - state["draft"].usage.completion_tokens,
        summary=state["summary"],
        tools=offered,
        exchanges=(*exchanges_of(state.get("rounds", ())), *state.get("exchanges", ())),
        conversation_id=state.get("conversation_id"),
        thinking=state.get("thinking", False),
        wishes=state.get("wishes", ""),
        must_call=client is not None and client.must_call,
        must_call_named=client.named if client is not None else None,
        in_parallel=client is None or client.in_parallel,
        are_callers_tools=has_client_tools(state),
    )


def _read(prompt: Prompt, state: AgentState) -> list[str] | None:
    """Return all that the model reads; None in open chat, which reads no documents."""
    if state["mode"] is ChatMode.OPEN:
        return None
    results = [result for exchange in prompt.exchanges for result in exchange.results]
    results += [r for turn in prompt.history for each in turn.rounds for r in each.results]
    turns = [turn.content for turn in prompt.history]
    passages = [chunk.text for passage in prompt.passages for chunk in passage.read]
    return [prompt.question, *turns, *passages, *results]


def _storable(text: str) -> str:
    """Drop what no database stores, so that offsets in the answer hold there too."""
    return text.replace("\x00", "").encode("utf-8", "ignore").decode("utf-8")
