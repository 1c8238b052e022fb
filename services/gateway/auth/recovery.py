"""What people prove by mail: that an address is theirs, and so that a new password may be set."""

import hashlib
import math
from dataclasses import dataclass

import structlog

from planes.shared.errors import TooManyRequests
from services.gateway.auth.errors import InvalidToken, MailNotConfigured
from services.gateway.auth.models import email_key
from services.gateway.auth.one_time_tokens import TokenKind
from services.gateway.auth.password_policy import PasswordPolicy, personal_words
from services.gateway.auth.passwords import Passwords
from services.gateway.auth.recovery_repository import RecoveryRepository
from services.gateway.auth.sessions import Sessions
from services.gateway.limits.scripts import RedisScripts
from services.gateway.mail.letters import LetterWriter
from services.gateway.mail.outbox import Composer, MailKind, Occasion
from services.gateway.mail.smtp import Letter

_MAILS_PER_MINUTE = 3
_REMINDERS_PER_MINUTE = 1
_log = structlog.get_logger(__name__)


class MailThrottle:
    """How many mails one address may be sent on the word of people who are not signed in."""

    def __init__(self, scripts: RedisScripts) -> None:
        """Store the scripts."""
        self._scripts = scripts

    async def take(self, address: str) -> None:
        """Count one mail, whether or not the address is anybody's.

        Raises:
            TooManyRequests: Too many mails for this address.
            RedisUnavailable: Nothing can be counted.
        """
        wait_s = await self._wait_s("mail", address, _MAILS_PER_MINUTE)
        if wait_s:
            detail = f"Too many mails for this address. Try again in {wait_s} s."
            raise TooManyRequests(detail, retry_after_s=wait_s)

    async def may_remind(self, address: str) -> bool:
        """Count one mail about a sign-in, and tell whether it may be sent.

        Apart from the others: else their count would tell what a sign-in met, and so whether an
        address had been free.

        Raises:
            RedisUnavailable: Nothing can be counted.
        """
        return not await self._wait_s("mail-reminder", address, _REMINDERS_PER_MINUTE)

    async def _wait_s(self, kind: str, address: str, per_minute: int) -> int:
        key = f"{kind}:{hashlib.sha256(email_key(address).encode()).hexdigest()}"
        *_, wait_us = await self._scripts.run("rate", [key], per_minute)
        return math.ceil(wait_us / 1e6)


@dataclass(frozen=True, slots=True)
class Proofs:
    """What recovery needs besides its repository."""

    sessions: Sessions
    passwords: Passwords
    policy: PasswordPolicy
    mail_throttle: MailThrottle
    is_mail_configured: bool


class RecoveryService:
    """Asks for mails, and accepts the tokens in them."""

    def __init__(self, repository: RecoveryRepository, proofs: Proofs) -> None:
        """Store the parts."""
        self._repository = repository
        self._sessions = proofs.sessions
        self._passwords = proofs.passwords
        self._policy = proofs.policy
        self._mail_throttle = proofs.mail_throttle
        self._is_mail_configured = proofs.is_mail_configured

    async def forgot_password(self, email: str) -> None:
        """Send a token for a new password, where the address is an account's.

        The work is the same for every address: whether there is an account is looked up when the
        mail is written.

        Raises:
            MailNotConfigured: The platform sends no mail.
            TooManyRequests: Too many mails for this address.
            Unavailable: Redis or PostgreSQL does not answer.
        """
        if not self._is_mail_configured:
            raise MailNotConfigured
        await self.request(Occasion(MailKind.RESET_PASSWORD, email.strip()))

    async def reset_password(self, token: str, new: str) -> None:
        """Set a new password, once per token; ends all sessions, access tokens and API keys.

        Raises:
            InvalidToken: Unknown, used or expired.
            InvalidInput: The password is too easy to guess; the token can still be used.
        """
        holder = await self._repository.holder(token)
        if holder is None:
            raise InvalidToken
        words = personal_words(holder.email, holder.display_name)
        self._policy.check(new, "new_password", words)
        new_hash = await self._passwords.hash(new)
        done = await self._repository.reset(holder.user_id, token, new_hash)
        if done is None:
            raise InvalidToken
        await self._sessions.revoked(done.user_id, done.session_ids, version=done.version)
        _log.info("password reset", user_id=str(done.user_id))

    async def verify(self, token: str) -> None:
        """Note that an address is its account's.

        Raises:
            InvalidToken: Unknown, used or expired.
        """
        if not await self._repository.verify(token):
            raise InvalidToken

    async def request(self, occasion: Occasion) -> None:
        """Let a mail be sent on the word of somebody unknown.

        Raises:
            TooManyRequests: Too many mails for this address.
            Unavailable: Redis or PostgreSQL does not answer.
        """
        await self._mail_throttle.take(occasion.address)
        await self._repository.post(occasion)

    async def post(self, kind: MailKind, email: str) -> None:
        """Let an account's address be told of a sign-in, unless it was a moment ago.

        Raises:
            Unavailable: Redis or PostgreSQL does not answer.
        """
        if await self._mail_throttle.may_remind(email):
            await self._repository.post(Occasion(kind, email))

    async def forget_expired(self) -> None:
        """Delete tokens that nobody can use any more; to be called now and then."""
        await self._repository.forget_expired()


class RecoveryLetters:
    """Writes the letters of identity, each with a token of its own."""

    def __init__(self, repository: RecoveryRepository, writer: LetterWriter) -> None:
        """Store the parts."""
        self._repository = repository
        self._writer = writer

    def composers(self) -> dict[MailKind, Composer]:
        """Return who writes which kind."""
        return {
            MailKind.VERIFY_EMAIL: self._verification,
            MailKind.RESET_PASSWORD: self._password_reset,
            MailKind.ACCOUNT_EXISTS: self._account_exists,
        }

    async def _verification(self, occasion: Occasion) -> Letter | None:
        minted = await self._mint(TokenKind.VERIFY_EMAIL, occasion)
        return self._writer.verification(*minted) if minted else None

    async def _password_reset(self, occasion: Occasion) -> Letter | None:
        minted = await self._mint(TokenKind.RESET_PASSWORD, occasion)
        return self._writer.password_reset(*minted) if minted else None

    async def _account_exists(self, occasion: Occasion) -> Letter | None:
        address = await self._repository.stored_address(email_key(occasion.address))
        return self._writer.account_exists(address) if address else None

    async def _mint(self, kind: TokenKind, occasion: Occasion) -> tuple[str, str] | None:
        return await self._repository.mint(kind, email_key(occasion.address))
