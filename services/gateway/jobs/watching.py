"""Jobs as server-sent events: one look at the database for all watched jobs of this process.

Nobody's stream holds a connection, and a job that many watch is read and written out once. Jobs of
many documents are told less often, because each event holds the whole job.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self
from uuid import UUID

import asyncpg
import orjson

from planes.shared.errors import PlatformError, TooManyRequests, Unavailable
from planes.shared.stores.postgres import Database
from services.gateway.auth.models import Account
from services.gateway.chat.guard import StreamGuard
from services.gateway.jobs import repository
from services.gateway.jobs.schemas import FINAL, Job
from services.gateway.problems import problem_document

LOOK_S = 0.5
_SLOWEST_S = 10.0
_DOCUMENTS_A_SECOND = 1000  # told to one client
_HEARTBEAT_S = 15.0
_LONGEST_S = 3600.0
_MOST_OF_USER = 20
_LARGE = 200  # documents; writing them out takes a few milliseconds
_RETRY = b"retry: 2000\n\n"
_HEARTBEAT = b":\n\n"


@dataclass(slots=True, eq=False)
class _Watched:
    """A job that somebody follows, as it was last seen.

    Attributes:
        body: Its JSON.
        stamp: What the database said of it then; empty: it is to be read at the next look.
        version: How often it has changed.
        due_at: When it is looked at again.
    """

    body: bytes = b""
    stamp: str = ""
    is_final: bool = False
    version: int = 0
    due_at: float = 0.0
    streams: set["JobStream"] = field(default_factory=set)

    def show(self, shown: "_Shown", stamp: str = "") -> None:
        """Take over a state and wake who waits for a new one."""
        if shown.body == self.body:
            self.stamp = stamp or self.stamp
            return
        self.body, self.is_final, self.stamp = shown.body, shown.is_final, stamp
        self.version += 1
        pause_s = min(_SLOWEST_S, shown.documents / _DOCUMENTS_A_SECOND)
        self.due_at = time.monotonic() + pause_s
        for stream in self.streams:
            stream.wake()


@dataclass(frozen=True, slots=True)
class _Shown:
    """A job written out."""

    body: bytes
    is_final: bool
    documents: int

    @classmethod
    def of(cls, job: Job) -> Self:
        return cls(job.model_dump_json().encode(), job.status in FINAL, len(job.documents))


class JobStream:
    """One client that follows one job."""

    def __init__(self, watched: _Watched, last_event_id: int) -> None:
        """Store what is followed, and where the numbering of events goes on."""
        self._watched = watched
        self._event_id = last_event_id
        self._seen = 0
        self._problem: PlatformError | None = None
        self._is_over = False
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There is something to tell."""
        self._woken.set()

    def abort(self, problem: PlatformError) -> None:
        """End with an `error` event."""
        self._problem = problem
        self.wake()

    def close(self) -> None:
        """End without a word; the client comes again, to another process if this one ends."""
        self._is_over = True
        self.wake()

    async def events(self) -> AsyncIterator[bytes]:
        """Yield `job` events; after one with a final status, or an `error`, there is no other."""
        deadline = time.monotonic() + _LONGEST_S
        yield _RETRY
        while not self._is_over and time.monotonic() < deadline:
            self._woken.clear()
            if self._problem is not None:
                yield self._numbered(b"error", orjson.dumps(problem_document(self._problem)))
                return
            if self._seen < self._watched.version:
                self._seen, is_final = self._watched.version, self._watched.is_final
                yield self._numbered(b"job", self._watched.body)
                if is_final:
                    return
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(_HEARTBEAT_S):
                    await self._woken.wait()
                continue
            yield _HEARTBEAT

    def _numbered(self, event: bytes, body: bytes) -> bytes:
        self._event_id += 1
        return b"id: %d\nevent: %s\ndata: %s\n\n" % (self._event_id, event, body)


class JobWatch:
    """All streams of jobs in this process."""

    def __init__(
        self,
        database: Database,
        guard: StreamGuard,
        *,
        max_streams: int,
        is_draining: Callable[[], bool],
    ) -> None:
        """Store where jobs are, who ends streams with their sessions, and how many there may be."""
        self._database = database
        self._guard = guard
        self._max_streams = max_streams
        self._is_draining = is_draining
        self._jobs: dict[UUID, _Watched] = {}
        self._users: Counter[UUID] = Counter()

    @property
    def open_streams(self) -> int:
        """How many there are."""
        return self._users.total()

    def open(self, job: Job, account: Account, last_event_id: int) -> JobStream:
        """Return a stream that begins with `job` as it is now; `leave` must follow.

        Raises:
            TooManyRequests: The user follows as many jobs as one may.
            Unavailable: This process has as many streams as it takes, or is about to end.
        """
        user_id = account.context.user_id
        if self._users[user_id] >= _MOST_OF_USER:
            raise TooManyRequests(
                f"You follow {_MOST_OF_USER} jobs already. Close a stream first.", retry_after_s=5
            )
        if self.open_streams >= self._max_streams or self._is_draining():
            raise Unavailable("Too many jobs are being followed. Try again in a moment.")
        watched = self._jobs.setdefault(job.id, _Watched())
        stream = JobStream(watched, last_event_id)
        watched.streams.add(stream)
        self._users[user_id] += 1
        watched.show(_Shown.of(job))
        self._guard.watch(stream, account)
        return stream

    def leave(self, stream: JobStream, job_id: UUID, account: Account) -> None:
        """Forget a stream."""
        self._guard.leave(stream)
        user_id = account.context.user_id
        self._users[user_id] -= 1
        if not self._users[user_id]:
            del self._users[user_id]
        watched = self._jobs[job_id]
        watched.streams.discard(stream)
        if not watched.streams:
            del self._jobs[job_id]

    async def look(self) -> None:
        """Tell what has changed since the last look; without streams the database is not asked.

        Raises:
            Unavailable: PostgreSQL does not answer.
        """
        if self._is_draining():
            self._close_all()
            return
        now = time.monotonic()
        due = [job_id for job_id, each in self._jobs.items() if each.due_at <= now]
        if not due:
            return
        stamps = await repository.stamps(self._database, due)
        changed = [
            job_id
            for job_id, watched in self._jobs.items()
            if stamps.get(job_id, watched.stamp) != watched.stamp
        ]
        if not changed:
            return
        rows = await repository.watched(self._database, changed)
        for job_id, documents in rows.items():
            if (watched := self._jobs.get(job_id)) is not None:
                watched.show(await _shown(job_id, documents), stamps[job_id])
        self._close_erased(set(changed) - rows.keys())

    def _close_erased(self, job_ids: set[UUID]) -> None:
        for job_id in job_ids & self._jobs.keys():
            for stream in self._jobs[job_id].streams:
                stream.close()

    def _close_all(self) -> None:
        for watched in self._jobs.values():
            for stream in watched.streams:
                stream.close()


async def _shown(job_id: UUID, rows: list[asyncpg.Record]) -> _Shown:
    """Write a job out; a large one off the event loop."""
    if len(rows) < _LARGE:
        return _Shown.of(Job.of(job_id, rows))
    return await asyncio.to_thread(lambda: _Shown.of(Job.of(job_id, rows)))
