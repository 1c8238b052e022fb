"""Which versions the object store holds files of."""

from collections.abc import AsyncGenerator
from uuid import UUID

from planes.shared.ports import ObjectStore


async def version_folders(
    objects: ObjectStore,
) -> AsyncGenerator[tuple[UUID, dict[UUID, str]], None]:
    """Yield tenants with the folders of versions that hold their files, some at a time."""
    told: set[str] = set()  # a folder's keys may stand on two pages
    async for keys in objects.keys(""):
        folders = {key.rpartition("/")[0] for key in keys}
        by_tenant: dict[UUID, dict[UUID, str]] = {}
        for folder in folders - told:
            if (ids := _ids(folder)) is not None:
                by_tenant.setdefault(ids[0], {})[ids[1]] = folder
        for found in by_tenant.items():
            yield found
        told = folders


def _ids(folder: str) -> tuple[UUID, UUID] | None:
    """Return tenant and version of a folder; None where it is no version's."""
    tenant, *between, version = folder.split("/")
    try:
        ids = UUID(tenant), UUID(version)
    except ValueError:
        return None
    is_version = len(between) == 2 and between[0] == "documents"
    return ids if is_version else None
