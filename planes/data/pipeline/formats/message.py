"""E-mail messages (RFC 5322, MIME): who wrote what to whom, and what was attached.

Attached files are named, not read: each is a document of its own to whoever uploads it.
"""

import email.policy
from collections.abc import Iterator
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import parsedate_to_datetime

from planes.data.pipeline.extracted import ExtractedText, TextBuilder, storable
from planes.data.pipeline.formats import html
from planes.data.pipeline.formats.plain import decode
from planes.shared.errors import DocumentRejected

MEDIA_TYPE = "message/rfc822"
_PEOPLE = ("From", "To", "Cc")
_READ_WRONG = (LookupError, ValueError, TypeError, AttributeError)  # what hostile headers raise
_MAX_PARTS = 10_000


def extract(content: bytes) -> ExtractedText:
    """Return subject, people and date, the text (HTML where there is no other), attachments.

    Raises:
        DocumentRejected: `corrupt`: it has no header; `too-complex`: above 10,000 parts.
    """
    message = BytesParser(EmailMessage, policy=email.policy.default).parsebytes(content)
    if not message.keys():
        raise DocumentRejected("corrupt", "The file is not an e-mail message: it has no header.")
    builder = TextBuilder()
    builder.add_block(_header(message, "Subject"), heading_level=1)
    builder.add_block("\n".join(_lines(message)))
    attachments = []
    for part in _parts(message):
        if part.get_content_maintype() == "text" and not _is_attached(part):
            _add_text(builder, part)
        else:
            attachments.append(_described(part))
    builder.add_block("Attachments: " + ", ".join(attachments) if attachments else "")
    return builder.build()


def _lines(message: EmailMessage) -> Iterator[str]:
    for name in _PEOPLE:
        if value := _header(message, name):
            yield f"{name}: {value}"
    if date := _header(message, "Date"):
        try:
            yield f"Date: {parsedate_to_datetime(date).isoformat(' ', 'minutes')}"
        except _READ_WRONG:
            yield f"Date: {date}"


def _header(message: EmailMessage, name: str) -> str:
    """Return a header's words, as they stand where they cannot be decoded."""
    try:
        value = str(message.get(name, ""))
    except _READ_WRONG:
        raw = (value for key, value in message.raw_items() if key.lower() == name.lower())
        value = str(next(raw, ""))
    return " ".join(storable(value).split())


def _parts(message: EmailMessage) -> Iterator[EmailMessage]:
    """Yield the parts to read or to name; of alternatives the plain one, if it has words."""
    waiting: list[EmailMessage] = [message]
    for _ in range(_MAX_PARTS):
        if not waiting:
            return
        part = waiting.pop()
        if part.is_multipart() and part.get_content_type() != "message/rfc822":
            parts = _inner(part)
            if part.get_content_type() == "multipart/alternative":
                parts = [_preferred(parts)]
            waiting += reversed(parts)
        else:
            yield part
    raise DocumentRejected("too-complex", f"The message has more than {_MAX_PARTS:,} parts.")


def _inner(part: EmailMessage) -> list[EmailMessage]:
    payload = part.get_payload()
    return [one for one in payload if isinstance(one, EmailMessage)] if payload else []


def _preferred(parts: list[EmailMessage]) -> EmailMessage:
    for part in parts:
        if part.get_content_type() == "text/plain" and _text(part).strip():
            return part
    return parts[-1]  # the richest one, RFC 2046


def _is_attached(part: EmailMessage) -> bool:
    return part.get_content_disposition() == "attachment" or bool(_file_name(part))


def _add_text(builder: TextBuilder, part: EmailMessage) -> None:
    if part.get_content_subtype() == "html":
        html.add(builder, _text(part).encode("utf-8-sig", "ignore"), below=1)
    else:
        builder.add_block(_text(part))


def _text(part: EmailMessage) -> str:
    content = part.get_payload(decode=True)
    content = content if isinstance(content, bytes) else b""
    try:
        return content.decode(str(part.get_content_charset("utf-8")))
    except _READ_WRONG:
        return decode(content)


def _described(part: EmailMessage) -> str:
    name = " ".join(storable(_file_name(part) or "unnamed").split())
    return f"{name} ({part.get_content_type()})"


def _file_name(part: EmailMessage) -> str | None:
    try:
        return part.get_filename()
    except _READ_WRONG:
        return "unnamed"
