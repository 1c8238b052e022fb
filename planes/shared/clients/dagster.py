"""A client of Dagster: ask for a run now, not at the next sensor tick."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import structlog
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError

_LAUNCH = """
mutation Launch(
  $selector: JobOrPipelineSelector!, $config: RunConfigData!, $tags: [ExecutionTag!]
) {
  launchRun(executionParams: {
    selector: $selector, runConfigData: $config, executionMetadata: {tags: $tags}
  }) {
    __typename
    ... on PythonError { message }
  }
}
"""
_WAITING = """
query Waiting {
  runsOrError(filter: {pipelineName: "ingestion", statuses: [QUEUED, NOT_STARTED]}, limit: 1) {
    ... on Runs { results { id } }
  }
}
"""
_DEADLINE_S = 1.0
_REQUEST_S = 10.0  # of an operator, who waits for it
# a webserver that is starting or broken may answer with anything
_NO_ANSWER = (PyreqwestError, TimeoutError, ValueError, KeyError, TypeError, AttributeError)
_log = structlog.get_logger(__name__)


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
            async with asyncio.timeout(_DEADLINE_S * 2):
                waiting = await self._query(_WAITING, {})
                if waiting["runsOrError"].get("results"):
                    return True
                kind = await self._launch("ingestion", {}, tags)
        except _NO_ANSWER as error:
            _log.warning("dagster did not take the request for a run", error=type(error).__name__)
            return False
        return _is_launched(kind)

    async def request_run(
        self, job: str, config: Mapping[str, object], tags: Mapping[str, str]
    ) -> bool:
        """Launch a run of a job with its configuration; False when Dagster did not take it."""
        try:
            async with asyncio.timeout(_REQUEST_S):
                kind = await self._launch(job, config, tags)
        except _NO_ANSWER as error:
            _log.warning("dagster did not take the request for a run", error=type(error).__name__)
            return False
        return _is_launched(kind)

    async def is_alive(self) -> bool:
        """Whether the webserver answers within a second."""
        try:
            async with asyncio.timeout(_DEADLINE_S):
                return "version" in await self._query("{ version }", {})
        except _NO_ANSWER:
            return False

    async def _launch(
        self, job: str, config: Mapping[str, object], tags: Mapping[str, str]
    ) -> object:
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
        return (await self._query(_LAUNCH, variables))["launchRun"]["__typename"]

    async def _query(
        self, query: str, variables: dict[str, object]
    ) -> dict[str, dict[str, object]]:
        if self._client is None:
            raise TimeoutError("the client is not open")
        request = self._client.post(self._url).body_json({"query": query, "variables": variables})
        response = await request.build().send()
        data: dict[str, dict[str, object]] = (await response.json())["data"]
        return data


def _is_launched(kind: object) -> bool:
    if kind != "LaunchRunSuccess":
        _log.warning("dagster refused the run", reason=kind)
    return kind == "LaunchRunSuccess"
