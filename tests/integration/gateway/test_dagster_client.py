"""Asking Dagster for a run: whatever it answers, the caller hears yes or no, and the log why."""

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from structlog.testing import capture_logs

from planes.shared.clients.dagster import DagsterClient
from tests.integration.gateway.conftest import served

_IDLE = {"data": {"runsOrError": {"results": []}}}


class _Webserver:
    """Answers the question for waiting runs, then the request for one."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/graphql", self._answer, methods=["POST"])])

    async def _answer(self, _: Request) -> Response:
        answer = self._answers.pop(0)
        return PlainTextResponse(answer, 502) if isinstance(answer, str) else JSONResponse(answer)


async def _ask(*answers: Any) -> tuple[bool, str]:
    """Return whether a run was launched, and the reason in the log."""
    async with served(_Webserver(*answers).app()) as url:
        client = DagsterClient(url)
        client.open()
        with capture_logs() as logs:
            is_launched = await client.request_ingestion("a-trace")
        await client.close()
    return is_launched, logs[0]["reason"] if logs else ""


async def test_a_run_is_launched_unless_one_waits() -> None:
    launched = {"data": {"launchRun": {"__typename": "LaunchRunSuccess"}}}
    assert await _ask(_IDLE, launched) == (True, "")
    assert await _ask({"data": {"runsOrError": {"results": [{"id": "x"}]}}}) == (True, "")


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([{"data": None, "errors": [{"message": "no such field"}]}], "no such field"),
        ([_IDLE, {"errors": [{"message": "a"}, {"message": "b"}], "data": None}], "a; b"),
        ([{"errors": "odd"}], "odd"),
        ([{"data": None}], "an answer without `runsOrError`"),
        ([_IDLE, {"data": {"launchRun": None}}], "an answer without `launchRun`"),
        ([["no object"]], "an answer without `runsOrError`"),
        (["<html>Bad gateway</html>"], "status 502 without JSON"),
        (
            [_IDLE, {"data": {"launchRun": {"__typename": "PythonError", "message": "broken"}}}],
            "PythonError: broken",
        ),
    ],
)
async def test_another_answer_is_a_failure_that_the_log_explains(
    answers: list[Any], reason: str
) -> None:
    assert await _ask(*answers) == (False, reason)


async def test_an_error_instead_of_the_waiting_runs_is_no_waiting_run() -> None:
    failed = {"data": {"runsOrError": {"message": "the database is away"}}}
    is_launched, reason = await _ask(failed, {"errors": [{"message": "no"}]})
    assert (is_launched, reason) == (False, "no")


@pytest.mark.parametrize(
    ("answer", "is_alive"),
    [({"data": {"instance": {"id": "Instance"}}}, True), ({"errors": [{}]}, False), ("no", False)],
)
async def test_a_webserver_that_answers_is_alive(answer: Any, is_alive: bool) -> None:
    async with served(_Webserver(answer).app()) as url:
        client = DagsterClient(url)
        client.open()
        assert await client.is_alive() is is_alive
        await client.close()
