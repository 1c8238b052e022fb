"""Reads uploaded files from the object store."""

import hashlib

from planes.data.pipeline.work import Work
from planes.shared.domain import original_key
from planes.shared.errors import DocumentRejected
from planes.shared.ports import ObjectStore

_MISSING = "The uploaded file is no longer stored. Upload it again."
_CHANGED = "The stored file is not the one that was uploaded. Upload it again."


async def load_original(objects: ObjectStore, work: Work) -> bytes:
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
