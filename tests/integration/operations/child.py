"""Backs up or restores in a process of its own, which waits to be killed at one stage."""

import asyncio
import sys
import time
from pathlib import Path

from services.operations.backup import back_up
from services.operations.backup_folder import Backup
from services.operations.restore import Restore
from tests.integration.operations.world import Place


def main(act: str, url: str, objects: str, folder: str, stage: str) -> None:
    """Act on the database and the folder of objects; `folder` is the backups' or the backup's."""

    def report(said: str) -> None:
        if said.startswith(stage):
            print("here", flush=True)  # noqa: T201 - the parent waits for it
            time.sleep(600)

    async def run() -> None:
        async with Place(url, Path(objects)).open(are_new=act == "restore") as stores:
            if act == "backup":
                await back_up(stores, Path(folder), report=report)
            else:
                backup = Backup(Path(folder))
                await Restore(backup, stores, report=report).run(lambda: None)

    asyncio.run(run())


if __name__ == "__main__":
    main(*sys.argv[1:])
