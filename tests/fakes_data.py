"""Small files of every format, made for one test."""

import io
import zipfile
from collections.abc import Sequence

import docx
import pypdf

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def pdf(pages: Sequence[str], *, password: str | None = None) -> bytes:
    """A PDF with one line of Helvetica a page; a page without a line is blank."""
    kids = " ".join(f"{4 + 2 * index} 0 R" for index in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for index, line in enumerate(pages):
        drawing = f"BT /F1 12 Tf 72 720 Td ({line}) Tj ET" if line else ""
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * index} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>",
            f"<< /Length {len(drawing)} >>\nstream\n{drawing}\nendstream",
        ]
    content = _assembled(objects)
    return _encrypted(content, password) if password else content


def _assembled(objects: Sequence[str]) -> bytes:
    content, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(content))
        content += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    tail = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R >>\n"
    return content + f"{tail}startxref\n{len(content)}\n%%EOF\n".encode()


def _encrypted(content: bytes, password: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(content))
    writer.encrypt(password, algorithm="AES-256")
    output = io.BytesIO()
    writer.write(output)
    return output.getvalue()


def docx_of(document: "docx.document.Document") -> bytes:
    """The bytes of a Word document."""
    output = io.BytesIO()
    document.save(output)
    return output.getvalue()


def docx_with_body(body: str) -> bytes:
    """A Word document whose body is this WordprocessingML."""
    original = zipfile.ZipFile(io.BytesIO(docx_of(docx.Document())))
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in original.infolist():
            content = original.read(member)
            if member.filename == "word/document.xml":
                head, _, _ = content.decode().partition("<w:body>")
                content = f"{head}<w:body>{body}</w:body></w:document>".encode()
            archive.writestr(member.filename, content)
    return output.getvalue()
