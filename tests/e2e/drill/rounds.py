"""A round of the drill: from a platform with nothing under way to one with nothing under way."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import httpx

from tests.e2e.conftest import RunningPlatform
from tests.e2e.drill.corpus import Corpus
from tests.e2e.drill.exactness import faults_of
from tests.e2e.drill.faults import Fault, Killer, has_come_to
from tests.e2e.drill.household import Household
from tests.e2e.drill.records import Records
from tests.e2e.person import Person

WITHIN_S = 180
_HEADER = ("seed", "step", "victim", "struck", "all final", "tidy", "result")
_VERSIONS = """
SELECT v.id, v.status FROM document_versions v JOIN documents d ON d.newest_version_id = v.id
WHERE d.id = ANY (:documents)
"""
_REMOVED = "SELECT count(*) FROM deletions WHERE document_id = ANY (:documents) AND chunks > 0"


@dataclass(frozen=True, slots=True)
class End:
    """How a round ended.

    Attributes:
        final_s: From its last fault until every document and deletion was final.
        tidy_s: From then until no file of a run was left either.
        faults: What was wrong then.
    """

    final_s: float
    tidy_s: float
    faults: list[str]

    @property
    def result(self) -> str:
        """In words."""
        return "exact" if not self.faults else f"{len(self.faults)} faults"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was killed, whether it was still there to be killed, and how the round ended."""

    fault: Fault
    was_struck: bool
    end: End


class Drill:
    """Two tenants that work and one that looks on, on a running platform."""

    def __init__(self, platform: RunningPlatform) -> None:
        """Register the tenants."""
        self.records = Records(platform)
        self._platform = platform
        self._busy, self._quiet, self._onlooker = (self._household() for _ in range(3))

    def close(self) -> None:
        """Close the connections."""
        for each in self._households:
            each.person.http.close()

    def prepare(self, seed: str) -> None:
        """Upload what the first round replaces and deletes."""
        corpus = Corpus(f"{seed}p")
        self._busy.upload([corpus.markdown(), corpus.markdown()])
        self._quiet.upload([corpus.markdown()])
        self._onlooker.upload([corpus.markdown()])
        self._settle()
        assert not (faults := self._faults()), "\n".join(faults)

    def run(self, fault: Fault) -> Outcome:
        """Do one round: work, kill, wait, look at everything."""
        before = self.begin(fault.seed)
        was_struck = Killer(self._platform, fault).strike(self._condition(fault.step))
        end = self.end(before)
        return Outcome(fault, was_struck, end)

    def begin(self, seed: str) -> str:
        """Give work to a platform with nothing under way; return what the onlooker has."""
        before = self._onlooker.everything()
        for each in self._households:
            each.begin_anew()
        self._give_work(seed)
        return before

    def end(self, before: str, *, others: Sequence[str] = ()) -> End:
        """Wait until nothing is under way, and look at everything.

        Args:
            before: What the onlooker had at the begin.
            others: Further tenants that work.
        """
        final_s, tidy_s = self._settle(others)
        self._wait(self._is_served, "the gateway")
        faults = self._faults()
        for tenant_id in others:
            faults += faults_of(self.records, tenant_id)
        if self._onlooker.everything() != before:
            faults.append("what the onlooker has is not what it was")
        return End(final_s, tidy_s, faults)

    @property
    def _households(self) -> tuple[Household, ...]:
        return self._busy, self._quiet, self._onlooker

    def _household(self) -> Household:
        return Household(Person(self._platform.base_url), self.records)

    def _give_work(self, seed: str) -> None:
        """Let the busy tenant replace, delete and upload, the quiet one upload."""
        corpus = Corpus(seed)
        replaced, *others = self._busy.documents
        for document_id in others:
            self._busy.delete(document_id)
        for document_id in self._quiet.documents:
            self._quiet.delete(document_id)
        self._busy.upload(corpus.mix())
        self._quiet.upload([corpus.markdown(), corpus.markdown()])
        self._busy.replace(replaced, corpus.markdown())

    def _condition(self, step: str) -> Callable[[], bool]:
        """Return whether the work has come to a step."""
        working = (self._busy, self._quiet)
        ids = [UUID(one) for each in working for one in each.documents]
        deleted = [UUID(one) for each in working for one in each.deleted]
        versions = {str(row["id"]) for row in self.records.rows(_VERSIONS, documents=ids)}
        if step == "received":
            return lambda: True
        if step == "published":
            return lambda: any(
                row["status"] == "ready" for row in self.records.rows(_VERSIONS, documents=ids)
            )
        if step == "removed":
            return lambda: self.records.values(_REMOVED, documents=deleted)[0] > 0
        return lambda: has_come_to(self.records.objects, step, versions)

    def _settle(self, others: Sequence[str] = ()) -> tuple[float, float]:
        """Wait until nothing is under way; return after how many seconds, see `End`."""
        started = time.monotonic()
        tenants = [*(each.person.tenant_id for each in self._households), *others]
        self._wait(lambda: not self.records.unsettled(tenants), "the end of the work")
        final_s = time.monotonic() - started
        self._wait(lambda: not self.records.intermediates(), "the end of the runs' files")
        return final_s, time.monotonic() - started

    def _is_served(self) -> bool:
        try:
            return httpx.get(f"{self._platform.base_url}/health", timeout=10).is_success
        except httpx.HTTPError:
            return False

    def _faults(self) -> list[str]:
        return [
            fault
            for each in self._households
            for fault in (*faults_of(self.records, each.person.tenant_id), *each.faults())
        ]

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WITHIN_S
        while not condition():
            if time.monotonic() > deadline:
                tenants = [each.person.tenant_id for each in self._households]
                left = [*self.records.unsettled(tenants), *self.records.intermediates()]
                raise AssertionError(f"{what} took more than {WITHIN_S} s: {left}")
            time.sleep(0.2)


def table(outcomes: list[Outcome]) -> str:
    """Return the rounds as a table in Markdown."""
    lines = [f"| {' | '.join(_HEADER)} |", "|---|---|---|---|---|---|---|"]
    for one in outcomes:
        cells = (
            one.fault.seed,
            one.fault.step,
            one.fault.victim,
            "yes" if one.was_struck else "too late",
            f"{one.end.final_s:.1f} s",
            f"{one.end.tidy_s:.1f} s",
            one.end.result,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
