"""Invoices: one a month, rebuilt from the ledger each time somebody asks."""

from itertools import groupby
from operator import itemgetter
from uuid import UUID

from planes.shared.errors import NotFound
from planes.shared.stores.postgres import Connection, Database
from services.gateway.auth.models import Account
from services.gateway.billing import invoice_repository
from services.gateway.billing.invoice_lines import Books, invoice_id_of, invoice_of
from services.gateway.billing.schemas import Invoice, InvoiceSummary


class InvoiceService:
    """A tenant's invoices; the month that has not ended is one too, and still open."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def newest(
        self, account: Account, after: UUID | None, limit: int
    ) -> tuple[list[InvoiceSummary], bool]:
        """Return invoices that follow `after`, newest first, and whether there are more.

        Months in which nothing was used or charged have none.
        """
        async with self._database.tenant(account.context.tenant_id) as connection:
            books = await _books(connection, account)
            rows = await invoice_repository.entries(connection, account.context)
        invoices = [
            invoice_of(books, period, list(entries))
            for period, entries in groupby(rows, key=itemgetter("period"))
        ]
        ids = [invoice.id for invoice in invoices]
        start = 0 if after is None else ids.index(after) + 1 if after in ids else len(ids)
        part = [_summary(invoice) for invoice in invoices[start : start + limit]]
        return part, len(invoices) > start + limit

    async def get(self, account: Account, invoice_id: UUID) -> Invoice:
        """Return one invoice.

        Raises:
            NotFound: The tenant has none of that id.
        """
        tenant_id = account.context.tenant_id
        async with self._database.tenant(tenant_id) as connection:
            for period in await invoice_repository.periods(connection, account.context):
                if invoice_id_of(tenant_id, period) == invoice_id:
                    books = await _books(connection, account)
                    rows = await invoice_repository.entries(connection, account.context, period)
                    return invoice_of(books, period, rows)
        raise NotFound("There is no such invoice.")


async def _books(connection: Connection, account: Account) -> Books:
    return Books(
        await invoice_repository.tenant(connection, account.context),
        await invoice_repository.plan_terms(connection),
        await invoice_repository.plan_history(connection, account.context),
    )


def _summary(invoice: Invoice) -> InvoiceSummary:
    return InvoiceSummary(
        id=invoice.id,
        number=invoice.number,
        status=invoice.status,
        issue_date=invoice.issue_date,
        period=invoice.period,
        total_usd=invoice.total_usd,
    )
