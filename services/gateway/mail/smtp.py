"""Sending one letter by SMTP (RFC 5321)."""

import asyncio
from dataclasses import dataclass
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate, make_msgid, parseaddr
from typing import Literal

import aiosmtplib

_DEADLINE_S = 20.0


class LetterRefused(Exception):
    """The server will never take this letter; a repeat is useless."""


class MailUnavailable(Exception):
    """The server did not take the letter this time."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A plain text to one person."""

    address: str
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mail leaves, and whom it is from."""

    host: str
    sender: str
    port: int | None = None
    username: str | None = None
    password: str | None = None
    tls: Literal["starttls", "tls", "none"] = "starttls"

    async def send(self, letter: Letter) -> None:
        """Hand one letter over, within 20 seconds.

        Raises:
            LetterRefused: Its address or its text was refused for good.
            MailUnavailable: No connection, no TLS, no login, or "try again later".
        """
        try:
            message = self._message(letter)
        except (MessageError, ValueError, IndexError) as error:
            raise LetterRefused("not an address of RFC 5322") from error
        try:
            async with asyncio.timeout(_DEADLINE_S):
                await aiosmtplib.send(
                    message,
                    hostname=self.host,
                    port=self.port,
                    username=self.username,
                    password=self.password,
                    use_tls=self.tls == "tls",
                    start_tls=self.tls == "starttls",
                    timeout=_DEADLINE_S,
                )
        except (aiosmtplib.SMTPRecipientsRefused, aiosmtplib.SMTPResponseException) as error:
            raise _judged(error) from error
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
            raise MailUnavailable(type(error).__name__) from error

    def _message(self, letter: Letter) -> EmailMessage:
        name, address = parseaddr(self.sender)
        message = EmailMessage()
        message["From"] = Address(name, addr_spec=address)
        message["To"] = Address(addr_spec=letter.address)
        message["Subject"] = letter.subject
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=address.rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation notices, please
        message.set_content(letter.text)
        return message


def _judged(error: aiosmtplib.SMTPException) -> LetterRefused | MailUnavailable:
    """Tell a refusal for good from one for now; server texts may hold addresses: only codes."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        codes = [each.code for each in error.recipients]
        is_final = all(code >= 500 for code in codes)
        return LetterRefused(str(codes)) if is_final else MailUnavailable(str(codes))
    code = error.code if isinstance(error, aiosmtplib.SMTPResponseException) else 0
    if isinstance(error, aiosmtplib.SMTPDataError) and code >= 500:
        return LetterRefused(str(code))
    return MailUnavailable(f"{type(error).__name__} {code}")
