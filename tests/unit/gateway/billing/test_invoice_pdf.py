"""Invoices as PDF files: what stands in them, in any script."""

from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID

import pypdfium2
import pytest

from planes.shared.errors import PlatformError
from services.gateway.billing import invoice_renderer
from services.gateway.billing.invoice_renderer import InvoiceRenderer
from services.gateway.billing.schemas import Invoice, InvoiceLine, Period

TENANT = UUID("01a1fd26-1267-7285-bf84-61d8d204dc7a")


def invoice(name: str, lines: int = 1, amount: str = "1230.1250000001") -> Invoice:
    line = InvoiceLine(
        kind="usage",
        description="Usage of a-model",
        model="a-model",
        messages=1234,
        prompt_tokens=1_000_000,
        completion_tokens=1,
        amount_usd=amount,
    )
    return Invoice(
        id=TENANT,
        number="PP-2026-11-01a1fd26",
        status="closed",
        issue_date=date(2026, 12, 1),
        period=Period(
            from_=datetime(2026, 11, 1, tzinfo=UTC), to=datetime(2026, 12, 1, tzinfo=UTC)
        ),
        total_usd="1234.56",
        tenant_id=TENANT,
        tenant_name=name,
        lines=[line] * lines,
    )


async def pages(document: Invoice) -> list[str]:
    pdf = pypdfium2.PdfDocument(await InvoiceRenderer().pdf(document))
    texts = [page.get_textpage().get_text_range() for page in pdf]
    pdf.close()
    return texts


async def test_the_figures_stand_in_it() -> None:
    (text,) = await pages(invoice("Acme"))
    for part in ("Acme", "PP-2026-11-01a1fd26", "01 December 2026", "1,234", "1,000,001"):
        assert part in text
    assert text.count("1,230.13") == 1, "the amount, to cents"
    assert text.count("1,230.12") == 1, "a million tokens, one less than it was for"
    assert "1,234.56 USD" in text
    assert "01 November 2026 to 30 November 2026" in text
    assert "U+" not in text


@pytest.mark.parametrize(
    ("amount", "shown"),
    [("0.0000123400", "< 0.01"), ("-0.0000123400", "> −0.01"), ("-29", "−29.00"), ("0", "0.00")],  # noqa: RUF001
)
async def test_an_amount_is_shown_in_cents_and_never_vanishes(amount: str, shown: str) -> None:
    (text,) = await pages(invoice("Acme", amount=amount))
    assert shown in text


async def test_an_invoice_of_a_month_that_has_not_ended_is_not_issued() -> None:
    unfinished = {"status": "open", "issue_date": None}
    (text,) = await pages(invoice("Acme").model_copy(update=unfinished))
    assert "Open: the month has not ended" in text


async def test_names_of_many_scripts_are_printed() -> None:
    name = "Müller & Søn, Ελλάδα, Москва, Հայաստան, საქართველო"
    (text,) = await pages(invoice(name))
    assert name in " ".join(text.split())
    assert "U+" not in text


async def test_what_no_font_has_is_written_as_its_number_with_a_note() -> None:
    (text,) = await pages(invoice("Acme \U000130f0"))
    assert "Acme [U+130F0]" in text
    assert "a character that no installed font has" in text


async def test_many_lines_go_on_the_next_page() -> None:
    texts = await pages(invoice("Acme", lines=60))
    assert len(texts) > 1
    assert sum(text.count("1,230.13") for text in texts) == 60
    assert "1,234.56 USD" in texts[-1]


@pytest.mark.parametrize(
    "name",
    ["\x00\n\r\t\x1b[0m", "**b** <b>&amp;</b> %s {x} $(id)", "x" * 5000, "مرحبا עברית", "👩‍👩‍👧‍👦"],
)
async def test_no_name_breaks_it(name: str) -> None:
    texts = await pages(invoice(name))
    assert "1,234.56 USD" in texts[-1]


async def test_the_child_sees_no_secret_of_the_gateway(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GATEWAY_REFRESH_SECRET", "do not tell")
    spy = tmp_path / "spy.py"
    spy.write_text("import os, sys\nsys.stdout.write(repr(dict(os.environ)))\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(invoice_renderer, "_PROGRAM", "spy")
    told = await InvoiceRenderer().pdf(invoice("Acme"))
    assert b"PYTHONPATH" in told
    assert b"GATEWAY" not in told


async def test_a_failed_child_is_an_error_that_says_nothing_of_itself() -> None:
    broken = invoice("Acme").model_copy(update={"total_usd": "not a number"})
    with pytest.raises(PlatformError, match="could not be printed"):
        await InvoiceRenderer().pdf(broken)
