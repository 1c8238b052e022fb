"""The agent, from a question to a checked answer.

| step | next |
|---|---|
| window | route: condense, retrieve (no history), generate (open chat, greetings) or compute |
| condense | retrieve |
| retrieve | judge: generate, rewrite (once) or decline |
| rewrite | retrieve |
| generate | use_tools, as long as the model calls some of ours, or verify |
| compute, decline | verify |
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeAlias, cast

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command

from planes.serving.agent import nodes, writing
from planes.serving.agent.state import AgentState, AgentTools, Progress
from planes.serving.tracing import traced, traced_choice
from planes.shared.domain import SearchScope
from planes.shared.wire import AnswerRequest

Graph: TypeAlias = CompiledStateGraph[AgentState, AgentTools, AgentState, AgentState]
Step: TypeAlias = Callable[[AgentState, Runtime[AgentTools]], Awaitable[AgentState]]
Choice: TypeAlias = Callable[[AgentState, Runtime[AgentTools]], str]


def build_graph() -> Graph:
    """Return the compiled graph. It keeps nothing between requests, so it has no checkpointer."""
    graph = StateGraph(AgentState, context_schema=AgentTools)
    graph.add_edge(START, "window")
    route, judge = traced_choice(nodes.route), traced_choice(nodes.judge)
    _add_choosing(graph, nodes.window, route, "condense", "retrieve", "generate", "compute")
    _add_choosing(graph, nodes.retrieve, judge, "generate", "rewrite", "decline")
    _add_choosing(graph, writing.generate, writing.after_writing, "use_tools", "verify")
    for step, following in (
        (nodes.condense, "retrieve"),
        (nodes.rewrite, "retrieve"),
        (writing.use_tools, "generate"),
        (nodes.compute, "verify"),
        (nodes.decline, "verify"),
        (nodes.verify, END),
    ):
        graph.add_node(step.__name__, traced(step))
        graph.add_edge(step.__name__, following)
    return graph.compile()


def _add_choosing(
    graph: "StateGraph[AgentState, AgentTools]", step: Step, choose: Choice, *following: str
) -> None:
    """Add a step that is followed by one of several.

    It chooses itself: an edge that chooses is a runnable of its own to LangGraph, a tenth of what
    an answer without a language model costs there.
    """
    run = traced(step)

    async def run_and_choose(state: AgentState, runtime: Runtime[AgentTools]) -> Command[str]:
        new = await run(state, runtime)
        return Command(update=new, goto=choose({**state, **new}, runtime))

    graph.add_node(step.__name__, run_and_choose, destinations=following)


class Agent:
    """Answers questions; safe for any number of answers at once."""

    def __init__(self, graph: Graph, tools: AgentTools) -> None:
        """Store the compiled graph and its tools."""
        self._graph = graph
        self._tools = tools

    @property
    def model(self) -> str:
        """The model that writes the answers."""
        return self._tools.generator.model

    async def answer(
        self, request: AnswerRequest, scope: SearchScope
    ) -> AsyncGenerator[Progress, None]:
        """Yield the progress of one answer; the last is an `Answer`. Closing it stops the work.

        Raises:
            PlatformError: The answer cannot be finished; the detail says why.
        """
        state: AgentState = {
            "message": request.message,
            "history": request.history,
            "mode": request.mode,
            "scope": scope,
            "top_k": request.top_k,
            "max_prompt_tokens": request.max_prompt_tokens,
            "max_tokens": request.max_tokens,
            "earlier_summary": request.summary,
            "earlier_summary_seq": request.summary_seq,
            "conversation_id": request.conversation_id,
            "thinking": request.thinking,
            "wishes": request.wishes,
            "client_tools": request.client_tools,
            "rounds": request.rounds,
        }
        stream = self._graph.astream(state, context=self._tools, stream_mode="custom")
        async with aclosing(stream) as progress:  # type: ignore[type-var]  # it is a generator
            async for told in progress:
                yield cast(Progress, told)
