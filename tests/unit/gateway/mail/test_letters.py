"""What the mails say."""

import pytest

from services.gateway.mail.letters import LetterWriter
from services.gateway.mail.smtp import Letter

WRITER = LetterWriter("https://chat.example.com")
TOKEN = "s3cret-t0ken"


def test_a_verification_says_how_and_how_long() -> None:
    letter = WRITER.verification("ada@example.com", TOKEN)
    assert letter == Letter(
        "ada@example.com",
        "Confirm your e-mail address",
        """\
This address was used to create an account at https://chat.example.com.

To confirm that it is yours, within 24 hours:

    POST https://chat.example.com/auth/verify
    {"token": "s3cret-t0ken"}

If it was not you, ignore this mail: without the confirmation nobody can sign in.
""",
    )


def test_a_reset_says_how_and_how_long() -> None:
    text = WRITER.password_reset("ada@example.com", TOKEN).text
    assert "POST https://chat.example.com/auth/password/reset\n" in text
    assert '{"token": "s3cret-t0ken", "new_password": "..."}' in text
    assert "within 30 minutes" in text
    assert "your password stays as it is" in text


def test_links_lead_into_the_operators_own_interface() -> None:
    writer = LetterWriter("https://api.example.com", "https://example.com/{action}#{token}")
    assert "    https://example.com/verify#s3cret-t0ken\n" in writer.verification("a@b", TOKEN).text
    reset = writer.password_reset("a@b", TOKEN).text
    assert "    https://example.com/reset-password#s3cret-t0ken\n" in reset
    assert "POST" not in reset


def test_a_letter_about_a_known_address_holds_no_secret() -> None:
    text = WRITER.account_exists("ada@example.com").text
    assert "You have one already" in text
    assert "{" not in text


@pytest.mark.parametrize(
    "name", ["www.evil.example/win", "https://evil.example", "a\nb: c", "x@y.z"]
)
def test_a_tenants_name_cannot_become_a_link_or_another_line(name: str) -> None:
    text = WRITER.invitation("ada@example.com", name, TOKEN).text
    [line] = [line for line in text.splitlines() if line.startswith("You are invited")]
    assert name not in line
    assert "evil.example" not in line


def test_every_letter_is_short() -> None:
    letters = [
        WRITER.verification("a@b", TOKEN),
        WRITER.password_reset("a@b", TOKEN),
        WRITER.account_exists("a@b"),
        WRITER.invitation("a@b", "Acme", TOKEN),
    ]
    assert all(len(letter.text) < 600 for letter in letters)
