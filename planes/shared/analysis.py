"""Words to index terms: one analyser for documents and questions, whatever the store.

Terms are lower-cased, stripped of stop words and reduced to Snowball stems
(https://snowballstem.org). A document's language is detected once; a question is analysed in each
language that the tenant's documents use.
"""

import re
from collections.abc import Callable
from functools import lru_cache

import bm25s.stopwords
import py3langid
import Stemmer

PLAIN = "simple"
_WORD = re.compile(r"\w+")
_MAX_TERM_CHARS = 64
_STOP_WORDS = {
    "da": ("danish", bm25s.stopwords.STOPWORDS_DANISH),
    "de": ("german", bm25s.stopwords.STOPWORDS_GERMAN),
    "en": ("english", bm25s.stopwords.STOPWORDS_EN_PLUS),
    "es": ("spanish", bm25s.stopwords.STOPWORDS_SPANISH),
    "fr": ("french", bm25s.stopwords.STOPWORDS_FRENCH),
    "it": ("italian", bm25s.stopwords.STOPWORDS_ITALIAN),
    "nl": ("dutch", bm25s.stopwords.STOPWORDS_DUTCH),
    "no": ("norwegian", bm25s.stopwords.STOPWORDS_NORWEGIAN),
    "pt": ("portuguese", bm25s.stopwords.STOPWORDS_PORTUGUESE),
    "ru": ("russian", bm25s.stopwords.STOPWORDS_RUSSIAN),
    "sv": ("swedish", bm25s.stopwords.STOPWORDS_SWEDISH),
    "tr": ("turkish", bm25s.stopwords.STOPWORDS_TURKISH),
}


def detect_language(text: str) -> str:
    """Return the ISO 639-1 code of a supported language, or "simple" for any other or none."""
    sample = text[:4000]
    if not _WORD.search(sample):
        return PLAIN
    language = str(py3langid.classify(sample)[0])
    return language if language in _STOP_WORDS else PLAIN


def terms(text: str, language: str) -> list[str]:
    """Return the index terms of `text` in order, repeats included.

    Args:
        text: Any text.
        language: A code that `detect_language` returned; "simple" only lower-cases.
    """
    analyse = _analyser(language)
    found = (analyse(word) for word in _WORD.findall(text.lower()) if len(word) <= _MAX_TERM_CHARS)
    return [term for term in found if term]


class _Analyser(dict[str, str]):
    """Remembers each word's stem, or "" for a stop word; a corpus repeats its words."""

    _LIMIT = 200_000

    def __init__(self, language: str) -> None:
        name, stop_words = _STOP_WORDS[language]
        self._stem = Stemmer.Stemmer(name, 0).stemWord
        self._stop_words = frozenset(stop_words)

    def __missing__(self, word: str) -> str:
        if len(self) >= self._LIMIT:
            self.clear()
        term = "" if word in self._stop_words else str(self._stem(word))
        self[word] = term
        return term


@lru_cache(maxsize=len(_STOP_WORDS) + 1)
def _analyser(language: str) -> Callable[[str], str]:
    if language == PLAIN:
        return str
    return _Analyser(language).__getitem__
