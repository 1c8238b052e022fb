"""How letters leave: secured, signed in, or not at all."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.embedded.ports import free_port
from services.gateway.mail.smtp import Letter, LetterRefused, MailUnavailable, SmtpServer
from tests.integration.gateway.auth.mailbox import open_mailbox

pytestmark = pytest.mark.integration

LETTER = Letter("ada@example.com", "Hello", "A short text.\n")
SENDER = "Polyplane <noreply@example.com>"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, SHA256())
    )
    paths = tmp_path / "certificate.pem", tmp_path / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    paths[1].write_bytes(secret)
    return paths


@pytest.fixture
def tls(certificate: tuple[Path, Path]) -> Iterator[ssl.SSLContext]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def log_in(
    _server: object, _session: object, _envelope: object, _how: str, who: object
) -> AuthResult:
    is_right = who == LoginPassword(b"polyplane", b"the password")
    return AuthResult(success=is_right, handled=False)


async def test_a_letter_goes_over_starttls_to_a_server_that_is_trusted(
    tls: ssl.SSLContext, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    options = {"tls_context": tls, "require_starttls": True, "authenticator": log_in}
    async with open_mailbox(**options, auth_required=True) as mailbox:
        server = SmtpServer("127.0.0.1", SENDER, mailbox.port, "polyplane", "the password")
        await server.send(LETTER)
        letter = await mailbox.letter("ada@example.com")
        assert letter.get_content().splitlines() == LETTER.text.splitlines()


async def test_a_stranger_gets_neither_letter_nor_password(tls: ssl.SSLContext) -> None:
    async with open_mailbox(tls_context=tls, authenticator=log_in) as mailbox:
        server = SmtpServer("127.0.0.1", SENDER, mailbox.port, "polyplane", "the password")
        with pytest.raises(MailUnavailable):
            await server.send(LETTER)
        assert mailbox.attempts == 0


async def test_a_server_without_starttls_gets_nothing() -> None:
    async with open_mailbox() as mailbox:
        with pytest.raises(MailUnavailable):
            await SmtpServer("127.0.0.1", SENDER, mailbox.port).send(LETTER)
        assert mailbox.attempts == 0


async def test_a_wrong_password_is_worth_another_try(
    tls: ssl.SSLContext, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    async with open_mailbox(tls_context=tls, authenticator=log_in) as mailbox:
        server = SmtpServer("127.0.0.1", SENDER, mailbox.port, "polyplane", "wrong")
        with pytest.raises(MailUnavailable, match="535"):
            await server.send(LETTER)
        assert mailbox.attempts == 0


async def test_nobody_at_the_port_is_worth_another_try() -> None:
    with pytest.raises(MailUnavailable):
        await SmtpServer("127.0.0.1", SENDER, free_port(), tls="none").send(LETTER)


@pytest.mark.parametrize(
    "address", ["a..b@example.com", "ada@example.com\nbcc: eve@example.com", ""]
)
async def test_an_address_that_is_none_is_not_tried_again(address: str) -> None:
    async with open_mailbox() as mailbox:
        server = SmtpServer("127.0.0.1", SENDER, mailbox.port, tls="none")
        with pytest.raises(LetterRefused):
            await server.send(Letter(address, "Hello", "text"))
        assert mailbox.letters == []
