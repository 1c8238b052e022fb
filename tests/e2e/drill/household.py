"""Tenants of the drill: what they have uploaded, and what must have become of it."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx

from tests.e2e.drill.corpus import Entry
from tests.e2e.drill.records import Records
from tests.e2e.person import Person

_PUBLISHED = """
SELECT d.id, d.published_version_id FROM documents d
WHERE d.tenant_id = :tenant AND d.deleted_at IS NULL
"""
_ROWS = """
SELECT r FROM (
    SELECT v.*::text AS r FROM document_versions v WHERE v.tenant_id = :tenant
    UNION ALL SELECT f.*::text FROM term_frequencies f WHERE f.tenant_id = :tenant
) rows ORDER BY r
"""


@dataclass(frozen=True, slots=True)
class Deleted:
    """A deleted document and what its receipt must say at the end."""

    document_id: str
    mark: str | None
    chunks: int
    files: int


class Household:
    """A tenant with its manifest: documents by id, jobs, deletions."""

    def __init__(self, person: Person, records: Records) -> None:
        """Store who uploads, and where the truth is read."""
        self.person = person
        self._records = records
        self._entries: dict[str, Entry] = {}
        self._jobs: dict[str, Sequence[Entry]] = {}
        self._deleted: list[Deleted] = []

    @property
    def documents(self) -> list[str]:
        """Ids of all that were uploaded and not deleted."""
        return list(self._entries)

    @property
    def deleted(self) -> list[str]:
        """Ids of those that were deleted since the manifest was begun anew."""
        return [one.document_id for one in self._deleted]

    def upload(self, entries: Sequence[Entry]) -> None:
        """Upload files as one batch."""
        files = [("files", (entry.name, entry.content)) for entry in entries]
        answer = self._accepted("POST", "/documents/batch", files=files)
        assert not answer["rejected"], answer
        ids = [document["id"] for document in answer["documents"]]
        self._entries |= dict(zip(ids, entries, strict=True))
        self._jobs[answer["job_id"]] = entries

    def replace(self, document_id: str, entry: Entry) -> None:
        """Upload another version."""
        files = {"file": (entry.name, entry.content)}
        answer = self._accepted("PUT", f"/documents/{document_id}/content", files=files)
        self._entries[document_id] = entry
        self._jobs[answer["job_id"]] = [entry]

    def delete(self, document_id: str) -> None:
        """Delete a document; note what there is to remove."""
        chunks = self._records.count_chunks(self.person.tenant_id, document_id)
        files = self._records.files(self.person.tenant_id)
        own = sum(document_id in name for name in files)
        self._accepted("DELETE", f"/documents/{document_id}")
        marks = self._entries.pop(document_id).marks
        self._deleted.append(Deleted(document_id, next(iter(marks), None), chunks, own))

    def begin_anew(self) -> None:
        """Forget jobs and deletions that were seen to end well, for another round."""
        self.person.stay_signed_in()
        self._jobs.clear()
        self._deleted.clear()

    def everything(self) -> str:
        """Return a digest of the tenant's chunks, versions, counts and files."""
        tenant_id = self.person.tenant_id
        everything = [
            *(each.digest for each in self._records.chunks(tenant_id)),
            *self._records.values(_ROWS, tenant=UUID(tenant_id)),
            *sorted(self._records.files(tenant_id)),
        ]
        return hashlib.sha256("\n".join(everything).encode()).hexdigest()

    def faults(self) -> list[str]:
        """Name every document, job and deletion that did not end as the manifest says."""
        texts = self._texts()
        return [
            *(
                fault
                for document_id, entry in self._entries.items()
                for fault in self._faults_of_document(document_id, entry, texts[document_id])
            ),
            *(fault for one in self._jobs.items() for fault in self._faults_of_job(*one)),
            *(fault for one in self._deleted for fault in self._faults_of_deletion(one)),
        ]

    def _texts(self) -> Mapping[str, str]:
        """Return what the chunks of each published version say, by document."""
        texts: dict[UUID, list[str]] = {}
        for each in self._records.chunks(self.person.tenant_id):
            texts.setdefault(each.chunk.version_id, []).append(each.chunk.text)
        published = self._records.rows(_PUBLISHED, tenant=UUID(self.person.tenant_id))
        return {
            str(row["id"]): "\n".join(texts.get(row["published_version_id"], []))
            for row in published
        }

    def _faults_of_document(self, document_id: str, entry: Entry, text: str) -> Iterator[str]:
        document = self.person.get(f"/documents/{document_id}")
        found = document["status"], (document["error"] or {}).get("code")
        expected = ("failed", entry.error) if entry.error else ("ready", None)
        if found != expected:
            yield f"{entry.name} is {found} instead of {expected}"
        words = text.replace(",", " ").replace('"', " ").split()
        wrong = [mark for mark in entry.marks if words.count(mark) != 1]
        if wrong:
            yield f"{entry.name}: {len(wrong)} lines are not there once, {wrong[0]} for one"

    def _faults_of_job(self, job_id: str, entries: Sequence[Entry]) -> Iterator[str]:
        job = self.person.get(f"/jobs/{job_id}")
        failed = sum(entry.error is not None for entry in entries)
        expected = {"total": len(entries), "ready": len(entries) - failed, "failed": failed}
        status = "succeeded" if expected["ready"] else "failed"
        progress = {name: job["progress"][name] for name in expected}
        if (job["status"], progress) != (status, expected):
            yield f"job {job_id} is {job['status']} {progress} instead of {status} {expected}"

    def _faults_of_deletion(self, deleted: Deleted) -> Iterator[str]:
        path = f"/documents/{deleted.document_id}"
        receipt = self.person.get(f"{path}/receipt")
        removed = {name: receipt["removed"][name] for name in ("chunks", "files")}
        expected = {"chunks": deleted.chunks, "files": deleted.files}
        if (receipt["status"], removed) != ("complete", expected):
            yield f"receipt of {deleted.document_id} says {receipt} instead of {expected}"
        if self.person.http.get(path).status_code != httpx.codes.NOT_FOUND:
            yield f"deleted document {deleted.document_id} is still there"
        if deleted.mark is not None:
            query = {"query": deleted.mark, "top_k": 50}
            answer = self.person.http.post("/search", json=query)
            if answer.status_code != httpx.codes.OK or deleted.mark in answer.text:
                yield f"search after the deletion of {deleted.document_id}: {answer.text[:200]}"

    def _accepted(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        answer = self.person.http.request(method, path, **content)
        assert answer.status_code == httpx.codes.ACCEPTED, answer.text
        return answer.json()
