"""Claims waiting documents, and reads their files from the object store."""

import hashlib

from planes.data.pipeline.registry import Registry
from planes.data.pipeline.work import Work
from planes.shared.domain import original_key
from planes.shared.errors import DocumentRejected
from planes.shared.stores.objects import FolderObjects

_CLAIM_BYTES = 512 << 10
_MISSING = "The uploaded file is no longer stored. Upload it again."
_CHANGED = "The stored file is not the one that was uploaded. Upload it again."


async def claim_batch(
    registry: Registry, *, seconds: float, documents: int, attempts: int
) -> list[Work]:
    """Claim documents for roughly `seconds` of one core's work, one document at least.

    Args:
        registry: Where they wait.
        seconds: Of work, estimated from sizes and formats.
        documents: At most so many.
        attempts: A version that was claimed as often fails instead.
    """
    batch: list[Work] = []
    while len(batch) < documents and sum(work.estimated_s for work in batch) < seconds:
        claimed = await registry.claim(
            size_bytes=_CLAIM_BYTES, documents=documents - len(batch), attempts=attempts
        )
        if not claimed:
            break
        batch += claimed
    return batch


async def load_original(objects: FolderObjects, work: Work) -> bytes:
    """Return the uploaded file, checked against the hash taken at the upload.

    Raises:
        DocumentRejected: `missing-file` or `corrupt`.
    """
    key = original_key(work.tenant_id, work.document_id, work.version_id)
    try:
        content = await objects.get(key)
    except FileNotFoundError as error:
        raise DocumentRejected("missing-file", _MISSING) from error
    if hashlib.sha256(content).hexdigest() != work.sha256:
        raise DocumentRejected("corrupt", _CHANGED)
    return content
