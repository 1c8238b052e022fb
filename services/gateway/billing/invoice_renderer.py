"""Renders invoices in a child process, one at a time, with a deadline."""

import asyncio
import os
import sys
import tempfile
from uuid import UUID

import structlog

from planes.shared.errors import PlatformError, TooManyRequests, Unavailable
from services.gateway.billing.schemas import Invoice

_DEADLINE_S = 30.0
_MAX_WAITING = 16
_PROGRAM = "services.gateway.billing.invoice_pdf"
_log = structlog.get_logger(__name__)


class InvoiceRenderer:
    """Turns invoices into PDF files beside the gateway's process."""

    def __init__(self) -> None:
        """Allow one child at a time, and one invoice of each tenant to wait for it."""
        self._turn = asyncio.Semaphore(1)
        self._tenants: set[UUID] = set()

    async def pdf(self, invoice: Invoice) -> bytes:
        """Return the invoice as a PDF file.

        Raises:
            TooManyRequests: Another invoice of the tenant is being printed, or waits for it: one
                tenant shall not take all the time there is.
            Unavailable: Others' invoices do.
            PlatformError: The child failed; the log says how.
        """
        if invoice.tenant_id in self._tenants:
            detail = "Another invoice of the tenant is being printed."
            raise TooManyRequests(detail, retry_after_s=2)
        if len(self._tenants) >= _MAX_WAITING:
            raise Unavailable("Too many invoices wait to be printed.", retry_after_s=5)
        self._tenants.add(invoice.tenant_id)
        try:
            async with asyncio.timeout(_DEADLINE_S), self._turn:
                return await self._run(invoice.model_dump_json(by_alias=False).encode())
        except TimeoutError as error:
            raise Unavailable("The invoice could not be printed in time.") from error
        finally:
            self._tenants.discard(invoice.tenant_id)

    async def _run(self, document: bytes) -> bytes:
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            _PROGRAM,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            # nothing of ours: the gateway's environment holds its secrets
            env={"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": tempfile.gettempdir()},
        )
        try:
            output, flaws = await child.communicate(document)
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode != 0:
            _log.error("an invoice was not printed", stderr=flaws.decode(errors="replace")[-2000:])
            raise PlatformError("The invoice could not be printed; the trace id finds out why.")
        return output
