"""A client of Dagster: ask for a run now, not at the next sensor tick."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import structlog
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import JSONDecodeError, PyreqwestError

_LAUNCH = """
mutation Launch(
  $selector: JobOrPipelineSelector!, $config: RunConfigData!, $tags: [ExecutionTag!]
) {
  launchRun(executionParams: {
    selector: $selector, runConfigData: $config, executionMetadata: {tags: $tags}
  }) {
    __typename
    ... on Error { message }
  }
}
"""
_WAITING = """
query Waiting {
  runsOrError(filter: {pipelineName: "ingestion", statuses: [QUEUED]}, limit: 1) {
    ... on Runs { results { id } }
    ... on Error { message }
  }
}
"""
_DEADLINE_S = 1.0
_REQUEST_S = 10.0  # of an operator, who waits for it
_MAX_REASON_CHARS = 300
_log = structlog.get_logger(__name__)


class DagsterFailed(Exception):
    """The webserver did not answer, or not with what was asked for; the message says which."""


class DagsterClient:
    """Starts runs through Dagster's GraphQL API."""

    def __init__(self, url: str) -> None:
        """Store the webserver's address; `open` makes the pool."""
        self._url = url.rstrip("/") + "/graphql"
        self._client: Client | None = None

    def open(self) -> None:
        """Make the pool of connections."""
        self._client = ClientBuilder().connect_timeout(timedelta(seconds=1)).build()

    async def close(self) -> None:
        """Close the pool."""
        if self._client is not None:
            await self._client.close()

    async def request_ingestion(self, trace_id: str) -> bool:
        """Launch an ingestion run unless one waits already; False when Dagster did not answer.

        A failure is not an error: the sensor of the data plane finds the documents within seconds.
        """
        tags = {"polyplane/trace_id": trace_id}
        try:
            waiting = await self._query(_WAITING, {}, "runsOrError")
            if waiting.get("results"):
                return True
            return await self._launch("ingestion", {}, tags)
        except DagsterFailed as error:
            _log.warning("dagster did not take the request for a run", reason=str(error))
            return False

    async def request_run(
        self, job: str, config: Mapping[str, object], tags: Mapping[str, str]
    ) -> bool:
        """Launch a run of a job with its configuration; False when Dagster did not take it."""
        try:
            return await self._launch(job, config, tags, within_s=_REQUEST_S)
        except DagsterFailed as error:
            _log.warning("dagster did not take the request for a run", reason=str(error))
            return False

    async def is_alive(self) -> bool:
        """Whether the webserver answers within a second."""
        try:
            await self._query("{ instance { id } }", {}, "instance")
        except DagsterFailed:
            return False
        return True

    async def _launch(
        self,
        job: str,
        config: Mapping[str, object],
        tags: Mapping[str, str],
        *,
        within_s: float = _DEADLINE_S,
    ) -> bool:
        selector = {
            "repositoryLocationName": "polyplane",
            "repositoryName": "__repository__",
            "jobName": job,
        }
        variables: dict[str, object] = {
            "selector": selector,
            "config": config,
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        launched = await self._query(_LAUNCH, variables, "launchRun", within_s=within_s)
        kind = launched.get("__typename")
        if kind != "LaunchRunSuccess":
            reason = f"{kind}: {launched.get('message', '')}"[:_MAX_REASON_CHARS]
            _log.warning("dagster refused the run", reason=reason)
        return kind == "LaunchRunSuccess"

    async def _query(
        self,
        query: str,
        variables: dict[str, object],
        field: str,
        *,
        within_s: float = _DEADLINE_S,
    ) -> dict[str, object]:
        """Return one object of the answer.

        Raises:
            DagsterFailed: There is none within `within_s` seconds.
        """
        if self._client is None:
            raise DagsterFailed("the client is not open")
        request = self._client.post(self._url).body_json({"query": query, "variables": variables})
        try:
            async with asyncio.timeout(within_s):
                response = await request.build().send()
                answer = await response.json()
        except TimeoutError as error:
            raise DagsterFailed(f"no answer within {within_s:.0f} s") from error
        except JSONDecodeError as error:
            raise DagsterFailed(f"status {response.status} without JSON") from error
        except PyreqwestError as error:
            raise DagsterFailed(f"no answer: {type(error).__name__}") from error
        return _object(answer, field)


def _object(answer: object, field: str) -> dict[str, object]:
    """Return an object of a GraphQL answer (specification, section 7.1).

    A webserver that is starting or broken may answer with anything.

    Raises:
        DagsterFailed: The answer is an error, or something else altogether.
    """
    members = answer if isinstance(answer, dict) else {}
    if errors := members.get("errors"):
        flaws = errors if isinstance(errors, list) else [errors]
        reasons = [flaw.get("message") if isinstance(flaw, dict) else flaw for flaw in flaws]
        raise DagsterFailed("; ".join(map(str, reasons))[:_MAX_REASON_CHARS])
    data = members.get("data")
    found = data.get(field) if isinstance(data, dict) else None
    if not isinstance(found, dict):
        raise DagsterFailed(f"an answer without `{field}`")
    return found
