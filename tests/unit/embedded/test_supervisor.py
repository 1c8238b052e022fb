"""The supervisor's own troubles."""

import asyncio
from pathlib import Path

import pytest

from services.embedded.home import Home
from services.embedded.state import last_state
from services.embedded.supervisor import Supervisor, until_stopped


async def test_a_watch_that_fails_ends_the_supervision() -> None:
    async def fail() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError):
        async with asyncio.timeout(5):
            await until_stopped(asyncio.Event(), [asyncio.create_task(fail())])


async def test_a_part_that_is_done_does_not_end_the_supervision() -> None:
    stopped = asyncio.Event()
    done = asyncio.create_task(asyncio.sleep(0))
    waiting = asyncio.create_task(until_stopped(stopped, [done]))
    await done
    assert not stopped.is_set()
    stopped.set()
    await waiting


def test_a_state_that_cannot_be_written_is_only_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = Home(tmp_path / "absent")
    Supervisor(home, {}).fail("no room")
    assert last_state(home) is None
    assert "state is not written" in caplog.text
