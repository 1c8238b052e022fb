"""A real SMTP server that keeps what it is sent."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass
class Mailbox:
    """What arrived. While `refusal` is set, the server answers that instead of taking mail."""

    port: int = 0
    letters: list[EmailMessage] = field(default_factory=list)
    refusal: str | None = None
    attempts: int = 0

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        del server, session
        self.attempts += 1
        if self.refusal is not None:
            return self.refusal
        content = envelope.content
        assert isinstance(content, bytes)
        self.letters.append(message_from_bytes(content, policy=policy.default))
        return "250 OK"

    async def letter(self, address: str, subject: str = "") -> EmailMessage:
        """Wait for a letter to an address, and take it out."""
        async with asyncio.timeout(15):
            while True:
                for letter in self.letters:
                    if letter["to"] == address and subject in letter["subject"]:
                        self.letters.remove(letter)
                        return letter
                await asyncio.sleep(0.05)

    async def token(self, address: str, subject: str = "") -> str:
        """Wait for a letter to an address, and return its token."""
        text = (await self.letter(address, subject)).get_content()
        found = re.search(r'"token": "([\w-]{43})"', text)
        assert found is not None, text
        return found[1]


@asynccontextmanager
async def open_mailbox(**options: Any) -> AsyncIterator[Mailbox]:
    """Run a server on a free port of loopback; the options are aiosmtpd's."""
    mailbox = Mailbox()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(mailbox, hostname="localhost", loop=loop, **options), "127.0.0.1", 0
    )
    mailbox.port = server.sockets[0].getsockname()[1]
    async with server:
        yield mailbox
