"""Which versions the folder of the object store holds files of."""

import os
from pathlib import Path
from uuid import UUID


def named_by_ids(folder: Path) -> list[UUID]:
    """Return the subfolders that are named by an id."""
    if not folder.is_dir():
        return []
    return [
        UUID(entry.name) for entry in os.scandir(folder) if entry.is_dir() and _is_id(entry.name)
    ]


def version_folders(tenant: Path) -> dict[UUID, Path]:
    """Return the folders of a tenant's versions."""
    documents = tenant / "documents"
    return {
        version: documents / str(document) / str(version)
        for document in named_by_ids(documents)
        for version in named_by_ids(documents / str(document))
    }


def _is_id(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
