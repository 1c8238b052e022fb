"""Which new passwords are accepted: long ones that nobody guesses first."""

from collections.abc import Iterable
from pathlib import Path

from planes.shared.errors import InvalidInput
from services.gateway.auth.passwords import MAX_CHARACTERS, normalised

MIN_CHARACTERS = 15

_ROWS = ("abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm")
_RUNS = tuple(row for forward in _ROWS for row in (forward, forward[::-1]))
_LEET = str.maketrans("@0$3!", "aosei")
_SHORTEST_RUN = 3
_SHORTEST_WORD = 4
_EXAMINED = 128  # characters from the start, so that a long password costs little


class PasswordPolicy:
    """Refuses what is short, repetitive, or one well-known password dressed up.

    There are no composition rules, and several words in a row are welcome
    (NIST SP 800-63B-4, 3.1.1.2).
    """

    def __init__(self) -> None:
        """Read the list of common passwords beside this module."""
        text = Path(__file__).with_name("common_passwords.txt").read_text("utf-8")
        lines = (line.strip() for line in text.splitlines())
        self._common = [
            line for line in lines if len(line) >= _SHORTEST_WORD and not line.startswith("#")
        ]

    def flaw(self, password: str, personal: Iterable[str]) -> str | None:
        """Return why a new password is refused, or None.

        Args:
            password: As typed.
            personal: Words that say who the user is: parts of the e-mail address, names.
        """
        text = normalised(password)
        if len(text) < MIN_CHARACTERS:
            return f"Use {MIN_CHARACTERS} characters or more; a few random words do well."
        if len(text) > MAX_CHARACTERS:
            return f"Use {MAX_CHARACTERS} characters at most."
        forms = {_plain(form) for form in (text, text.casefold().translate(_LEET))}
        words = [*self._common, *(word for each in personal if len(word := _plain(each)) > 3)]
        if _is_periodic(text) or any(_is_one_word(form, words) for form in forms if form):
            return "This password is too easy to guess: it is a well-known one, or a pattern."
        return None

    def check(self, password: str, field: str, personal: Iterable[str]) -> None:
        """Refuse a weak new password.

        Args:
            password: As typed.
            field: Its name in the body.
            personal: As `flaw` takes them.

        Raises:
            InvalidInput: It says why.
        """
        flaw = self.flaw(password, personal)
        if flaw is not None:
            fields = [{"pointer": f"/body/{field}", "detail": flaw}]
            raise InvalidInput(flaw, extensions={"errors": fields})


def personal_words(email: str, *names: str) -> list[str]:
    """Return words that say who a person is: parts of the address, and of names."""
    local, _, domain = email.partition("@")
    return [email, local, *domain.split("."), *(word for name in names for word in name.split())]


def _is_one_word(plain: str, words: Iterable[str]) -> bool:
    """Tell whether runs, and copies of at most one well-known word, make up the whole text."""
    return _is_runs(plain) or any(
        word in plain and _is_runs(plain.replace(word, "")) for word in words
    )


def _is_runs(plain: str) -> bool:
    """Tell whether keyboard rows, sequences and single characters in a row make up the text."""
    reachable = [True]
    for end in range(1, min(len(plain), _EXAMINED) + 1):
        starts = range(max(0, end - len(_ROWS[0])), end - _SHORTEST_RUN + 1)
        reachable.append(any(reachable[s] and _is_run(plain[s:end]) for s in starts))
    return reachable[-1]


def _plain(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())


def _is_run(part: str) -> bool:
    return len(set(part)) == 1 or any(part in row for row in _RUNS)


def _is_periodic(text: str) -> bool:
    """Tell whether three or more copies of a part make up the text, but for its end."""
    return any(
        text == (text[:period] * len(text))[: len(text)] for period in range(1, len(text) // 3 + 1)
    )
