"""Streams of answers by their id: resumed, told again, and stopped, on any gateway."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from uuid import UUID

from planes.shared.errors import (
    Conflict,
    Gone,
    NotFound,
    PlatformError,
    TooManyRequests,
    Unavailable,
)
from planes.shared.stores.postgres import Database
from services.gateway.auth.models import Account
from services.gateway.chat import repository
from services.gateway.chat.conversations import ConversationService
from services.gateway.chat.following import Follower
from services.gateway.chat.guard import StreamGuard
from services.gateway.chat.replays import FIRST_ID, events_of, one_by_one
from services.gateway.chat.service import ChatService
from services.gateway.chat.stops import StopChannel
from services.gateway.chat.stream_buffer import SentEvent, StreamBuffer, stream_key
from services.gateway.idempotency.models import AnswerPlace
from services.gateway.idempotency.service import AnswerUnderWay
from services.gateway.limits.scripts import RedisUnavailable

_ABSENT = "There is no such stream."
_NOT_NOW = "The answer goes on, but cannot be followed now. Read it in its conversation."
_STOPPED_WITHIN_S = 3.0
_STORED_WITHIN_S = 2.0
_LOOK_S = 0.05
_MOST_RETRY_S = 5
_MOST_OF_USER = 50


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How streams are kept and told.

    Attributes:
        grace_s: How long an answer outlives its readers; 0: not at all, and nobody resumes it.
        heartbeat_s: Longest silence of a stream.
        max_followers: Most clients that follow resumed streams in this process.
    """

    grace_s: float
    heartbeat_s: float
    max_followers: int


@dataclass(frozen=True, slots=True)
class StreamStores:
    """Where streams are looked up."""

    database: Database
    buffer: StreamBuffer
    stops: StopChannel
    conversations: ConversationService


class StreamService:
    """What becomes of a stream after its request."""

    def __init__(
        self, stores: StreamStores, chat: ChatService, guard: StreamGuard, options: StreamOptions
    ) -> None:
        """Store the parts."""
        self._stores = stores
        self._chat = chat
        self._guard = guard
        self._options = options
        self._followers: dict[Follower, UUID] = {}
        self._users: Counter[UUID] = Counter()

    @property
    def heartbeat_s(self) -> float:
        """The longest silence of a stream."""
        return self._options.heartbeat_s

    async def resume(
        self, account: Account, answer_id: UUID, after: int
    ) -> AsyncGenerator[bytes] | None:
        """Return the events after the one with the id `after`; None: there are no more.

        Raises:
            NotFound: The caller has no such answer, or it failed and was forgotten.
            Gone: Events between are not kept any more.
            Conflict: The answer is under way, and nobody may resume answers here.
            TooManyRequests: The caller follows as many streams as one may.
            Unavailable: The buffer or the database does not answer.
        """
        if after >= FIRST_ID:
            return await self._told_again(account, answer_id, after)
        key = stream_key(account.context, answer_id)
        if await self._is_under_way(account, answer_id):
            return await self._follow_live(account, key, after)
        last = await self._end_of(key)
        if last is not None and last.id <= after:
            return None
        if last is None or not await self._may_be_told(account, answer_id):
            return await self._told_again(account, answer_id, after)
        batches = await self._stores.buffer.after(key, after)
        if not batches or batches[0].previous > after:
            return await self._told_again(account, answer_id, after)
        return self._follow(account, key, after)

    async def await_repeat(self, account: Account, under_way: AnswerUnderWay) -> None:
        """Keep an answer from ending until its client asks again; that client is told when.

        Nobody may be left to write it: then its client waits until it counts as dead.
        """
        answer_id, grace_s = under_way.place.answer_id, self._options.grace_s
        if not await self._is_written(account, answer_id):
            return
        under_way.retry_after_s = min(_MOST_RETRY_S, max(1, int(grace_s / 2)))
        if grace_s:
            key = stream_key(account.context, answer_id)
            with contextlib.suppress(RedisUnavailable):
                await self._stores.buffer.see(key, max(grace_s, 2 * under_way.retry_after_s))

    async def stop(self, account: Account, answer_id: UUID) -> None:
        """Stop an answer, on whichever gateway it is written; one that has ended stays as it is.

        Raises:
            NotFound: The caller has no such answer.
            Unavailable: The database does not answer.
        """
        context = account.context
        try:
            async with self._stores.database.platform() as connection:
                is_stopping = await repository.stop(connection, context, answer_id)
        finally:  # after the question whether it runs: one without a token leaves nothing behind
            self._chat.stop_answer(answer_id, context)
        if not is_stopping:
            await self._require(account, answer_id)
            return
        await self._stores.stops.tell(answer_id)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOPPED_WITHIN_S):
                while await self._is_under_way(account, answer_id):  # noqa: ASYNC110 (elsewhere)
                    await asyncio.sleep(_LOOK_S)

    async def forget(self, account: Account, conversation_id: UUID) -> None:
        """Remove the events of a deleted conversation, and stop its answer that is under way.

        Without Redis they end by themselves; they are told no more already.

        Raises:
            Unavailable: The database does not answer.
        """
        context = account.context
        async with self._stores.database.tenant(context.tenant_id) as connection:
            answers = await repository.recent_answers(connection, context, conversation_id)
        for answer_id, is_under_way in answers:
            key = stream_key(context, answer_id)
            if is_under_way:
                with contextlib.suppress(NotFound):  # it has ended meanwhile, and cost nothing
                    await self.stop(account, answer_id)
                await self._end_of(key)
            with contextlib.suppress(RedisUnavailable):
                await self._stores.buffer.forget(key)

    async def listen(self) -> None:
        """Stop answers of this process as other gateways ask.

        Raises:
            Unavailable: Redis does not answer; the caller comes again.
        """
        await self._stores.stops.listen(self._chat.stop_answer)

    def end_streams(self, problem: PlatformError) -> None:
        """End every resumed stream of this process with an `error` event."""
        for follower in self._followers:
            follower.abort(problem)

    async def _follow_live(self, account: Account, key: str, after: int) -> AsyncGenerator[bytes]:
        """Follow an answer that is under way.

        Raises:
            Gone, Conflict, TooManyRequests, Unavailable: As `resume`.
        """
        if not self._options.grace_s:
            raise Conflict("Answers cannot be resumed here while they are under way.")
        try:
            batches = await self._stores.buffer.after(key, after)
        except RedisUnavailable as error:
            raise Unavailable(_NOT_NOW) from error
        if batches and batches[0].previous > after:
            raise Gone(_NOT_NOW)
        return self._follow(account, key, after)

    async def _end_of(self, key: str) -> SentEvent | None:
        """Return the last event of an answer that has ended; None: it is not in the buffer.

        It is stored in the moment after the answer was settled.
        """
        with contextlib.suppress(RedisUnavailable, TimeoutError):
            async with asyncio.timeout(_STORED_WITHIN_S):
                while (newest := await self._stores.buffer.last(key)) is not None:
                    if newest.is_last:
                        return newest
                    await asyncio.sleep(_LOOK_S)
        return None

    async def _may_be_told(self, account: Account, answer_id: UUID) -> bool:
        """Whether the events of an answer that has ended hold nothing that was deleted since.

        Raises:
            NotFound: Its conversation was deleted.
        """
        try:
            place = await self._require(account, answer_id)
        except NotFound:  # it failed unbilled, and nothing is kept of it but how it failed
            return True
        if place is None:
            return False
        told = await self._stores.conversations.settled_answer(account.context, place)
        return all(citation.quote for citation in told.citations)

    async def _told_again(
        self, account: Account, answer_id: UUID, after: int
    ) -> AsyncGenerator[bytes] | None:
        """Tell an answer from the stored message, or what follows in such a telling.

        Raises:
            NotFound: The caller has no such answer.
            Gone: The client has seen events that are not kept: its place in the text is unknown.
        """
        place = await self._require(account, answer_id)
        if place is None:
            raise NotFound(_ABSENT)
        told = await self._stores.conversations.settled_answer(account.context, place)
        if 0 < after < FIRST_ID:
            where = {
                "conversation_id": str(told.conversation_id),
                "message_id": str(told.message.id),
            }
            raise Gone(
                "The answer has ended and its events are kept no longer. Read the message in its "
                "conversation, or ask for the stream without `Last-Event-ID`.",
                extensions=where,
            )
        events = list(events_of(told, after))
        return one_by_one(events) if events else None

    def _follow(self, account: Account, key: str, after: int) -> AsyncGenerator[bytes]:
        user_id = account.context.user_id
        if self._users[user_id] >= _MOST_OF_USER:
            raise TooManyRequests(
                f"You follow {_MOST_OF_USER} streams already. Close one first.", retry_after_s=5
            )
        if len(self._followers) >= self._options.max_followers:
            raise Unavailable("Too many streams are being followed.", retry_after_s=1)
        follower = Follower(self._stores.buffer, key, after, grace_s=self._options.grace_s)
        return self._followed(follower, account, UUID(key.rpartition(":")[2]))

    async def _followed(
        self, follower: Follower, account: Account, answer_id: UUID
    ) -> AsyncGenerator[bytes]:
        async def is_written() -> bool:
            return await self._is_written(account, answer_id)

        user_id = account.context.user_id
        self._followers[follower] = user_id
        self._users[user_id] += 1
        self._guard.watch(follower, account)
        try:
            heartbeat_s = self._options.heartbeat_s
            async for event in follower.events(is_written, heartbeat_s=heartbeat_s):
                yield event
        finally:
            self._guard.leave(follower)
            del self._followers[follower]
            self._users[user_id] -= 1
            if not self._users[user_id]:
                del self._users[user_id]
            await asyncio.shield(follower.see())  # the grace begins now

    async def _is_under_way(self, account: Account, answer_id: UUID) -> bool:
        return await self._written_ago_s(account, answer_id) is not None

    async def _is_written(self, account: Account, answer_id: UUID) -> bool:
        ago_s = await self._written_ago_s(account, answer_id)
        return ago_s is not None and 0 <= ago_s < repository.WRITER_DEAD_S

    async def _written_ago_s(self, account: Account, answer_id: UUID) -> float | None:
        context = account.context
        async with self._stores.database.tenant(context.tenant_id) as connection:
            return await repository.written_ago_s(connection, context, answer_id)

    async def _require(self, account: Account, answer_id: UUID) -> AnswerPlace | None:
        """Return where an ended answer stands; None: it was billed before places were noted.

        Raises:
            NotFound: The caller has no such answer.
        """
        context = account.context
        async with self._stores.database.tenant(context.tenant_id) as connection:
            return await repository.settled_place(connection, context, answer_id)
