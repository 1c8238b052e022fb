"""The operator's commands over generations of the index, without a platform."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from planes.shared.domain import IndexRecipe
from planes.shared.errors import Conflict
from planes.shared.stores.postgres_generations import Generation, GenerationProgress
from services.cli.generation_desk import Desk
from services.cli.generation_steps import bring_live
from services.cli.main import app

_NOW = datetime.now(UTC)
_GENERATION = Generation(
    number=2,
    recipe=IndexRecipe("a model", "semchunk-128"),
    state="building",
    created_at=_NOW,
    live_at=None,
    retired_at=None,
    build_wanted=False,
    build=None,
    evaluation=None,
    store="postgres",
    copy_of=None,
    verified=None,
)


@dataclass
class DataPlane:
    """A registry and a Dagster whose turns take documents off what is missing."""

    missing: int
    turns: list[int]
    """How many are missing after each turn."""
    failed: list[dict[str, str]] = field(default_factory=list)
    is_live: bool = False
    build: dict[str, Any] | None = None

    async def switch(self, number: int, *, unevaluated: bool) -> int:
        assert (number, unevaluated) == (2, True)
        self.is_live = not self.missing
        return self.missing

    async def progress(self, number: int) -> GenerationProgress:
        assert number == 2
        return GenerationProgress(10, self.missing)

    async def get(self, number: int) -> Generation:
        assert number == 2
        return replace(_GENERATION, build=self.build)

    async def request_run(self, job: str, config: object, tags: dict[str, str]) -> bool:
        assert (job, tags["dagster/priority"]) == ("reembedding", "10")
        assert "is_last" in str(config)
        self.missing = self.turns.pop(0)
        self.build = {
            "failures": len(self.failed),
            "failed": self.failed,
            "ended_at": (datetime.now(UTC) + timedelta(seconds=1)).isoformat(),
        }
        return True


def desk(plane: DataPlane) -> Desk:
    nothing = cast(Any, None)
    return Desk(cast(Any, plane), cast(Any, plane), nothing, nothing, nothing)


async def test_a_complete_generation_is_switched_to_at_once() -> None:
    plane = DataPlane(missing=0, turns=[])
    await bring_live(desk(plane), 2, unevaluated=True)
    assert plane.is_live


async def test_what_is_missing_is_added_before_the_switch_in_as_many_turns_as_it_takes() -> None:
    plane = DataPlane(missing=9, turns=[4, 0])
    await bring_live(desk(plane), 2, unevaluated=True)
    assert plane.is_live
    assert plane.turns == []


async def test_documents_that_cannot_be_added_are_named_and_nothing_is_switched() -> None:
    failed = [{"tenant_id": "t", "document_id": "the-document", "reason": "Its text is gone."}]
    plane = DataPlane(missing=3, turns=[1], failed=failed)
    with pytest.raises(Conflict, match=r"1 documents are missing(.|\n)*the-document: Its text"):
        await bring_live(desk(plane), 2, unevaluated=True)
    assert not plane.is_live


@pytest.mark.parametrize(
    "command",
    [
        ["list-generations"],
        ["create-generation", "--chunker", "semchunk-128"],
        ["build-generation", "2"],
        ["evaluate-generation", "2"],
        ["switch-generation", "2"],
        ["rollback-generation"],
        ["drop-generation", "2"],
    ],
)
def test_the_commands_need_a_running_platform(
    command: list[str], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYPLANE_HOME", str(tmp_path / "home"))
    answer = CliRunner().invoke(app, ["admin", *command])
    assert answer.exit_code == 3, answer.output
