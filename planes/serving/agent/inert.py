r"""Answers whose links and images do nothing: what a model writes is untrusted text.

A document may talk a model into an image whose address carries the conversation away, or into a
link to somewhere else. No target that a model writes comes from the platform, so none works,
whatever renders the answer: Markdown of any dialect, or HTML as a browser reads it.

| what a renderer needs | becomes |
|---|---|
| `](target)` of a link or image (CommonMark, 6.3) | `]` |
| `](` and `]:`, whatever follows (CommonMark, 4.7) | `] (`, `] :` |
| `<` before a letter, `/`, `!` or `?` (HTML, 13.2.5.6); bare `<b>` and its like stay | `< img` |
| `url(` of CSS | `url (` |
| `&#58;`, `&colon;`: characters that a check of the text would not see | `& #58;` |
| a bare address, which many clients turn into a link | nothing, unless it was read |

Each of these stands within one run of ASCII characters without white space. So a growing answer is
held back by its last run alone, and comes out the same wherever its pieces are cut.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cached_property

_RUN = "".join(map(chr, range(0x21, 0x7F)))
_MAX_RUN = 2000
_TARGET = re.compile(
    r"\]\((?=[!-'*-~]*[/:.;#?\\])[!-'*-~]*(?:\([!-'*-~]*\)[!-'*-~]*)*\)?"  # brackets in pairs
)
_BROKEN_UP = re.compile(
    r"<(?=[a-z/!?])(?!/?(?:b|br|code|em|i|kbd|li|ol|p|pre|strong|sub|sup|u|ul)/?>)"
    r"|\](?=[(:])|\burl(?=\()|&(?=#[0-9x]|[a-z][a-z0-9]*;)",
    re.IGNORECASE | re.ASCII,
)
_HOST = r"[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){0,8}\.[a-z][a-z0-9-]{1,62}"
_ADDRESS = re.compile(
    r"(?:(?:[a-z][a-z0-9+.-]{1,20})?:[/\\]{2}|(?:javascript|vbscript|data):(?=[!-~])|\bwww\d*\."
    rf"|//(?={_HOST})|(?<![\w.+-])[\w.+-]+@(?={_HOST})|(?<![a-z0-9-]){_HOST}(?::\d+)?(?:/(?=[!-~])|[?#](?=\w)))"
    r"[!#-&(-;=?-_a-~]*",  # up to white space, a quotation mark, an angle bracket
    re.IGNORECASE | re.ASCII,
)
_ENDS = re.compile(r"[!-/:-@\[-`{-~]*(?:[\t-\r <]|\Z)")  # an address ends here for every client
_MARKER_LAST = re.compile(r"\[\d{1,3}\]\Z")
_PUNCTUATION = "!),.:;?]|}*_~"
_REMOVED = "link removed"


class InertText:
    """Takes the effect out of links and images in a growing answer."""

    def __init__(self, read: Iterable[str] | None) -> None:
        """Start an answer.

        Args:
            read: What the model was given: bare addresses that stand in it may be repeated. None
                leaves all of them.
        """
        self._read = None if read is None else tuple(read)
        self._held = ""

    def feed(self, piece: str) -> str:
        """Return what of the text so far may be shown and was not yet."""
        text = self._held + piece
        shown = text.rstrip(_RUN)
        if len(text) - len(shown) > _MAX_RUN:  # no word is as long: it ends here
            self._held = ""
            return f"{self._inert(text)} "
        self._held = text[len(shown) :]
        return self._inert(shown)

    def finish(self) -> str:
        """Return what was held back."""
        text, self._held = self._held, ""
        return self._inert(text)

    def _inert(self, text: str) -> str:
        if self._read is None:
            return inert(text)
        return _BROKEN_UP.sub(r"\g<0> ", _ADDRESS.sub(self._shown, _TARGET.sub("]", text)))

    @cached_property
    def _known(self) -> frozenset[str]:
        """Addresses that were read; few answers hold one, so that few need them."""
        return frozenset(_addresses(self._read or ()))

    def _shown(self, found: re.Match[str]) -> str:
        """Return a bare address that was read, and words in place of another."""
        address = _bare(found.group())
        after = found.group()[len(address) :]
        if address not in self._known:
            is_in_brackets = found.string[: found.start()].endswith("(")
            return (_REMOVED if is_in_brackets else f"({_REMOVED})") + after
        is_whole = _ENDS.match(found.string, found.start() + len(address))
        return address + ("" if is_whole else " ") + after


def inert(text: str) -> str:
    """Return `text` without the effect of its links and images; bare addresses stay."""
    return _BROKEN_UP.sub(r"\g<0> ", _TARGET.sub("]", text))


def _addresses(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        found = (match.group() for match in _ADDRESS.finditer(text))
        yield from (_bare(address) for address in found if len(address) <= _MAX_RUN)


def _bare(address: str) -> str:
    """Return an address without the punctuation and the markers of the sentence around it."""
    bare = address.rstrip(_PUNCTUATION)
    while marker := _MARKER_LAST.search(address, max(0, len(bare) - 4), len(bare) + 1):
        address = address[: marker.start()]
        bare = address.rstrip(_PUNCTUATION)
    return bare
