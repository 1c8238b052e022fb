"""Dagster's own run launcher, with an answer to whether a run's process still lives.

Without it a run that was killed together with its code server stays "started" for ever and, as runs
go one by one, no other run starts.
"""

import dagster as dg
import grpc  # type: ignore[import-untyped]
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value


class WatchedRunLauncher(DefaultRunLauncher):
    """Launches runs in the code server; run monitoring asks it whether they are still there."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Whether `check_run_worker_health` can answer."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Ask the run's code server; no server, no run, because a run ends with its server."""
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "not yet in a code server")
        try:
            answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id))
        except DagsterUserCodeUnreachableError as error:
            cause = error.__cause__
            if isinstance(cause, grpc.RpcError) and cause.code() == grpc.StatusCode.UNAVAILABLE:
                return CheckRunHealthResult(WorkerStatus.FAILED, "its code server is gone")
            return CheckRunHealthResult(WorkerStatus.RUNNING, "its code server is slow")
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, "its process is gone")
