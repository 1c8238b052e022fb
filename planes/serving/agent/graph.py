"""The agent, from a question to a checked answer.

| step | next |
|---|---|
| window | route: condense, generate (open chat, greetings) or compute (a sum) |
| condense | retrieve |
| retrieve | judge: generate, rewrite (once) or decline |
| rewrite | retrieve |
| generate | use_tools, as long as the model calls some of ours, or verify |
| compute, decline | verify |
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeAlias, cast

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from planes.serving.agent import nodes, writing
from planes.serving.agent.state import AgentState, AgentTools, Progress
from planes.serving.tracing import traced, traced_choice
from planes.shared.domain import SearchScope
from planes.shared.wire import AnswerRequest

Graph: TypeAlias = CompiledStateGraph[AgentState, AgentTools, AgentState, AgentState]


def build_graph() -> Graph:
    """Return the compiled graph. It keeps nothing between requests, so it has no checkpointer."""
    graph = StateGraph(AgentState, context_schema=AgentTools)
    for step in (
        nodes.window,
        nodes.compute,
        nodes.condense,
        nodes.retrieve,
        nodes.rewrite,
        nodes.decline,
        writing.generate,
        writing.use_tools,
        nodes.verify,
    ):
        graph.add_node(step.__name__, traced(step))
    graph.add_edge(START, "window")
    graph.add_conditional_edges(
        "window", traced_choice(nodes.route), ["condense", "generate", "compute"]
    )
    graph.add_edge("condense", "retrieve")
    graph.add_conditional_edges(
        "retrieve", traced_choice(nodes.judge), ["generate", "rewrite", "decline"]
    )
    graph.add_edge("rewrite", "retrieve")
    graph.add_conditional_edges("generate", writing.after_writing, ["use_tools", "verify"])
    graph.add_edge("use_tools", "generate")
    graph.add_edge("compute", "verify")
    graph.add_edge("decline", "verify")
    graph.add_edge("verify", END)
    return graph.compile()


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
