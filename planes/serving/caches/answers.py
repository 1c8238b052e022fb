"""Answers that are told again where the same was asked of the same documents."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypeAlias

import structlog
from pydantic import TypeAdapter, ValidationError

from planes.serving.agent.graph import Agent
from planes.serving.agent.state import Answer, Cited, Progress, StepTaken, TextAdded, TokensSpent
from planes.serving.caches.citations import CitationCheck
from planes.serving.caches.keys import CacheKeys, in_any_order
from planes.serving.caches.lookups import note_lookup
from planes.serving.caches.shared import SharedCache
from planes.serving.tracing import note, span
from planes.shared.domain import ChatMode, FinishReason, SearchScope
from planes.shared.stores.redis_caches import CacheEntry
from planes.shared.wire import AnswerRequest

_KIND = "answer"
_NOT_ASKED = {"answer_id", "message_id", "conversation_id", "fresh", "scope"}
_log = structlog.get_logger(__name__)

Told: TypeAlias = TextAdded | Cited | TokensSpent


@dataclass(frozen=True, slots=True)
class AnswerCache:
    """Where answers are kept, how they are found, and which are kept at all."""

    shared: SharedCache
    keys: CacheKeys
    citations: CitationCheck
    modes: frozenset[ChatMode]

    def keeps(self, request: AnswerRequest) -> bool:
        """Whether an answer to this may be kept."""
        is_wanted = request.mode in self.modes and self.shared.is_on
        return is_wanted and request.scope.corpus_version is not None


@dataclass(frozen=True, slots=True)
class _Recorded:
    told: tuple[Told, ...]
    answer: Answer


_RECORDED = TypeAdapter(_Recorded)


class CachedAgent:
    """Answers questions, or tells again what was answered; safe for any number at once.

    A cached answer has the events of its original in their order, but one step, `cache`, in place
    of the original's steps; its text comes in fewer and longer pieces. Its tokens are the
    original's (docs/adr/0017-cached-answers-cost-what-their-originals-did.md).
    """

    def __init__(self, agent: Agent, cache: AnswerCache) -> None:
        """Store who answers, and where answers are kept."""
        self._agent = agent
        self._cache = cache

    @property
    def model(self) -> str:
        """The model that writes the answers."""
        return self._agent.model

    async def answer(
        self, request: AnswerRequest, scope: SearchScope
    ) -> AsyncGenerator[Progress, None]:
        """Yield the progress of one answer; the last is an `Answer`. Closing it stops the work.

        Raises:
            PlatformError: The answer cannot be finished; the detail says why.
        """
        digest = self._digest(request, scope) if self._cache.keeps(request) else None
        if digest is not None and not request.fresh:
            with span("cache"):
                recorded = await self._recorded(digest, scope)
                note(is_cached=recorded is not None)
            note_lookup("answer", is_hit=recorded is not None)
            if recorded is not None:
                yield StepTaken("cache")
                for again in recorded.told:
                    yield again
                yield recorded.answer
                return
        recorder = _Recorder()
        async with aclosing(self._agent.answer(request, scope)) as progress:
            async for told in progress:
                recorder.hear(told)
                # before the last event is told: its reader hangs up then
                if digest is not None and isinstance(told, Answer):
                    await self._keep(digest, scope, recorder.recorded(told))
                yield told

    def _digest(self, request: AnswerRequest, scope: SearchScope) -> str:
        asked = request.model_dump(mode="json", exclude=_NOT_ASKED)
        return self._cache.keys.digest(
            _KIND,
            tenant_id=scope.tenant_id,
            corpus_version=scope.corpus_version,
            given=[self.model, asked, in_any_order(scope)],
        )

    async def _recorded(self, digest: str, scope: SearchScope) -> _Recorded | None:
        value = await self._cache.shared.get(scope.tenant_id, _KIND, digest)
        if value is None:
            return None
        try:
            recorded = _RECORDED.validate_json(value)
        except ValidationError:
            _log.error("cached answer cannot be read", tenant_id=str(scope.tenant_id))
            return None
        holds = await self._cache.citations.hold(recorded.answer.citations, scope)
        return recorded if holds else None

    async def _keep(self, digest: str, scope: SearchScope, recorded: _Recorded | None) -> None:
        if recorded is not None and scope.corpus_version is not None:
            value = _RECORDED.dump_json(recorded)
            entry = CacheEntry(scope.tenant_id, scope.corpus_version, _KIND, digest, value)
            await self._cache.shared.put(entry)


class _Recorder:
    """Hears an answer grow, and knows whether it may be told again."""

    def __init__(self) -> None:
        self._told: list[Told] = []
        self._is_repeatable = True

    def hear(self, progress: Progress) -> None:
        match progress:
            case TextAdded(text, _) if self._told and isinstance(self._told[-1], TextAdded):
                self._told[-1] = replace(progress, text=self._told[-1].text + text)
            case TextAdded() | Cited() | TokensSpent():
                self._told.append(progress)
            case StepTaken(name, _):
                # a tool, or a reranker in time, may say another thing; reasoning is not told again
                if name.startswith(("tool", "think", "rerank")):
                    self._is_repeatable = False
            case Answer():
                pass
            case _:  # of a kind that is not recorded yet
                self._is_repeatable = False

    def recorded(self, answer: Answer) -> _Recorded | None:
        """Return the whole answer, None where it may not be told again."""
        is_whole = answer.finish_reason is not FinishReason.CANCELLED
        return _Recorded(tuple(self._told), answer) if is_whole and self._is_repeatable else None
