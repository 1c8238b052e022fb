"""An invoice as a PDF: a program of its own, from JSON on standard input to standard output.

The libraries and fonts take 100 MB and a second of computing, which the gateway shall not spend.
"""

import resource
import sys
from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from string import printable
from tempfile import TemporaryDirectory

from fpdf import FPDF, XPos, YPos
from fpdf.enums import Align

from services.gateway.billing.invoice_fonts import Typeface, typeface
from services.gateway.billing.schemas import Invoice, InvoiceLine

_INK, _SOFT, _LINE, _ACCENT = (23, 28, 38), (104, 114, 130), (222, 226, 232), (38, 84, 160)
_WEIGHTS = {"": 400, "B": 650}
_MEMORY_BYTES, _COMPUTING_S = 1 << 30, 25
_MARGIN_MM, _WIDTH_MM = 22.0, 166.0
_COLUMNS = (
    ("", 64.0),
    ("Messages", 20.0),
    ("Tokens", 28.0),
    ("USD per million", 28.0),
    ("Amount (USD)", 26.0),
)
_CENT, _MILLION = Decimal("0.01"), 1_000_000


def render(invoice: Invoice) -> bytes:
    """Return the invoice as a PDF file, the same bytes for the same invoice.

    Characters that no installed font has are written as U+XXXX, and a note says so.
    """
    with TemporaryDirectory() as folder:
        page = _Page(invoice, typeface(_texts(invoice), Path(folder), _WEIGHTS))
        page.add_page()
        page.write_head()
        page.write_lines()
        page.write_total()
        return bytes(page.output())


class _Page(FPDF):
    """The page while it is written."""

    def __init__(self, invoice: Invoice, fonts: Typeface) -> None:
        super().__init__(format="A4")
        self._invoice = invoice
        self.set_margin(_MARGIN_MM)
        self.set_auto_page_break(auto=True, margin=28)
        self.set_title(f"Invoice {invoice.number}")
        self.set_creation_date(invoice.period.to)
        self._missing = fonts.missing
        for family, styles in fonts.files.items():
            for style, path in styles.items():
                self.add_font(family, style, path)
        self._family, *fallbacks = fonts.files
        self.set_fallback_fonts(fallbacks)
        self.set_text_shaping(use_shaping_engine=True)

    def write_head(self) -> None:
        """Write what it is, whose, and of which month."""
        invoice = self._invoice
        self._text("Polyplane", 11, _ACCENT, bold=True)
        self.ln(9)
        self._text("Invoice", 26, bold=True)
        self.ln(3)
        last_day = invoice.period.to - timedelta(days=1)
        facts = (
            ("Number", invoice.number),
            ("Billed to", self._printable(invoice.tenant_name)),
            ("Tenant", str(invoice.tenant_id)),
            ("Period", f"{invoice.period.from_:%d %B %Y} to {last_day:%d %B %Y} (UTC)"),
            ("Issued", _issued(invoice)),
        )
        for name, value in facts:
            self._font(9.5, _SOFT)
            self.cell(28, 6.2, name)
            self._font(9.5, _INK, bold=name == "Billed to")
            self.multi_cell(
                _WIDTH_MM - 28, 6.2, value, align=Align.L, new_x=XPos.LMARGIN, new_y=YPos.NEXT
            )
        self.ln(9)

    def write_lines(self) -> None:
        """Write the table."""
        self._font(8.5, _SOFT)
        self._row([name for name, _ in _COLUMNS], 7)
        self._rule()
        for line in self._invoice.lines:
            self._font(9.5, _INK)
            self._row(_cells(line, self._printable(line.description)), 9)
            self._rule()

    def write_total(self) -> None:
        """Write the total, and the note on characters that could not be printed."""
        self.ln(4)
        self._font(12, _INK, bold=True)
        self.cell(_WIDTH_MM - 60, 10, "Total")
        total = f"{Decimal(self._invoice.total_usd):,.2f} USD"
        self.cell(60, 10, total, align=Align.R)
        self.ln(10)
        if self._missing:
            self.ln(4)
            self._text("U+XXXX: a character that no installed font has.", 8.5, _SOFT)

    def footer(self) -> None:
        """Write what the figures mean below every page; the library calls it."""
        self.set_y(-20)
        self._font(8, _SOFT)
        note = (
            "The total is the exact sum of the lines, rounded once, half to even. The price of a "
            "million tokens is what yours cost on average."
        )
        self.cell(_WIDTH_MM - 20, 5, note)
        self.cell(20, 5, f"{self.page_no()}", align=Align.R)

    def _row(self, cells: list[str], height_mm: float) -> None:
        text, *numbers = cells
        top = self.get_y()
        self.multi_cell(
            _COLUMNS[0][1], height_mm, text, align=Align.L, new_x=XPos.RIGHT, new_y=YPos.NEXT
        )
        bottom = self.get_y()
        if bottom < top:  # the text began a new page
            top = self.t_margin
        self.set_xy(_MARGIN_MM + _COLUMNS[0][1], top)
        for (_, width_mm), number in zip(_COLUMNS[1:], numbers, strict=True):
            self.cell(width_mm, height_mm, number, align=Align.R)
        self.set_xy(_MARGIN_MM, bottom)

    def _rule(self) -> None:
        self.set_draw_color(*_LINE)
        self.set_line_width(0.2)
        self.line(_MARGIN_MM, self.get_y(), _MARGIN_MM + _WIDTH_MM, self.get_y())

    def _font(self, size: float, color: tuple[int, int, int] = _INK, *, bold: bool = False) -> None:
        self.set_font(self._family, "B" if bold else "", size)
        self.set_text_color(*color)

    def _text(
        self, text: str, size: float, color: tuple[int, int, int] = _INK, *, bold: bool = False
    ) -> None:
        self._font(size, color, bold=bold)
        self.cell(_WIDTH_MM, size * 0.5, text)
        self.ln(size * 0.5)

    def _printable(self, text: str) -> str:
        return "".join(f"[U+{ord(c):04X}]" if c in self._missing else c for c in text)


def _texts(invoice: Invoice) -> str:
    descriptions = "".join(line.description for line in invoice.lines)
    return f"{printable}−{invoice.tenant_name}{descriptions}"  # noqa: RUF001 (a minus sign)


def _issued(invoice: Invoice) -> str:
    if invoice.issue_date is None:
        return "Open: the month has not ended"
    return f"{invoice.issue_date:%d %B %Y}"


def _cells(line: InvoiceLine, description: str) -> list[str]:
    amount = Decimal(line.amount_usd)
    if line.kind != "usage":
        return [description, "", "", "", _cents(amount)]
    tokens = line.prompt_tokens + line.completion_tokens
    price = _cents(amount / tokens * _MILLION) if tokens else ""
    return [description, f"{line.messages:,}", f"{tokens:,}", price, _cents(amount)]


def _cents(amount: Decimal) -> str:
    """Return an amount to cents, half to even; one that would vanish as less than a cent."""
    cents = amount.quantize(_CENT, ROUND_HALF_EVEN)
    if cents == 0 and amount != 0:
        return "< 0.01" if amount > 0 else "> −0.01"  # noqa: RUF001 (a minus sign)
    return f"{cents:,.2f}".replace("-", "−")  # noqa: RUF001 (a minus sign)


def _limit() -> None:
    """Have the system end this process, whatever becomes of the gateway that waits for it."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_COMPUTING_S, _COMPUTING_S))


if __name__ == "__main__":
    _limit()
    sys.stdout.buffer.write(render(Invoice.model_validate_json(sys.stdin.buffer.read())))
