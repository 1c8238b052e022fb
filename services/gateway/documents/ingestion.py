"""Asks Dagster for ingestion runs, at most one at a time, whatever the number of uploads."""

import asyncio

from planes.shared.clients.dagster import DagsterClient

_PAUSE_S = 0.3


class IngestionRequests:
    """Coalesces requests: uploads that arrive together share one run."""

    def __init__(self, dagster: DagsterClient) -> None:
        """Store the client."""
        self._dagster = dagster
        self._wanted = asyncio.Event()
        self._trace_id = ""

    def request(self, trace_id: str) -> None:
        """Ask for a run soon; never blocks and never fails."""
        self._trace_id = trace_id
        self._wanted.set()

    async def run(self) -> None:
        """Serve requests until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self._dagster.request_ingestion(self._trace_id)
            await asyncio.sleep(_PAUSE_S)
