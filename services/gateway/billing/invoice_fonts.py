"""Fonts of invoices: Noto, of which only the files and the glyphs are read that a text needs."""

import unicodedata
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from fontTools.subset import Options, Subsetter  # type: ignore[import-untyped]
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]
from fontTools.varLib.instancer import (  # type: ignore[import-untyped]
    instantiateVariableFont,
)

_PACKAGE, _BASE = "manimgx_fonts", "NotoSans[wght].ttf"  # Latin, Greek and Cyrillic
_CJK_PACKAGE, _CJK = "manimgx_fonts_cjk", "NotoSansCJK-VF.otf.ttc"


@dataclass(frozen=True, slots=True)
class Typeface:
    """Font files for one text, by family and then style; the first family is the main one.

    Attributes:
        files: Family to style ("" or "B") to file.
        missing: Characters of the text that none of the installed fonts has.
    """

    files: Mapping[str, Mapping[str, Path]]
    missing: Set[str]


def typeface(text: str, folder: Path, weights: Mapping[str, int]) -> Typeface:
    """Write the parts of fonts that a text needs into a folder.

    Args:
        text: All that will be written.
        folder: Where the files go.
        weights: Style to weight, 100 to 900.
    """
    characters = set(text)
    missing = {char for char in characters if not _is_invisible(char)}
    chosen: dict[str, Mapping[str, Path]] = {}
    for path in _installed():
        found = missing & _characters(path)
        if found or not chosen:
            chosen[f"font{len(chosen)}"] = _write(path, characters, folder, weights)
            missing -= found
        if not missing:
            break
    return Typeface(chosen, missing)


def _installed() -> Iterator[Path]:
    base = Path(str(files(_PACKAGE) / _BASE))
    yield base
    for path in sorted(base.parent.glob("*.ttf")):
        if path.name != _BASE and "Italic" not in path.name:
            yield path
    if find_spec(_CJK_PACKAGE) is not None:
        yield Path(str(files(_CJK_PACKAGE) / _CJK))


def _characters(path: Path) -> Set[str]:
    with TTFont(path, lazy=True, fontNumber=0) as font:
        return {chr(code) for code in font.getBestCmap()}


def _write(
    path: Path, characters: Set[str], folder: Path, weights: Mapping[str, int]
) -> dict[str, Path]:
    """Cut a variable font down to some characters, then to one file for each weight.

    In this order, because fixing the weight of a whole font takes seconds.
    """
    options = Options()
    options.layout_features = ["*"]
    part = folder / f"{path.stem}.part"
    with TTFont(path, lazy=True, fontNumber=0) as font:
        subsetter = Subsetter(options)
        subsetter.populate(unicodes=map(ord, characters))
        subsetter.subset(font)
        font.save(part)
    written = {}
    for style, weight in weights.items():
        written[style] = folder / f"{path.stem}-{weight}{path.suffix.replace('ttc', 'otf')}"
        with TTFont(part) as font:
            instantiateVariableFont(font, {"wght": weight}, inplace=True)
            font.save(written[style])
    return written


def _is_invisible(char: str) -> bool:
    """Controls and joiners: they shape what is beside them and need no glyph."""
    return char.isspace() or unicodedata.category(char) in {"Cc", "Cf"}
