"""Words in pictures of pages, by Tesseract; an optional extra, `polyplane[ocr]`.

The models are loaded before the process forks the child that reads a file, which may open none.
"""

import os
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pypdfium2

_DPI = 200  # as exact as 300 on clean scans, and a third faster
_POINTS_AN_INCH = 72
_MAX_SIDE_PIXELS = 5_000
_PACKAGE = "tesserocr"
_NO_LANGUAGES = ("osd", "equ")  # orientation and formulas
_MODELS = Path(sys.prefix, "share", "tessdata")  # where the models' packages put them


@cache
def engine() -> Any:
    """Return the engine with all its models in memory, or None where the extra is not installed."""
    models = _MODELS.glob("*.traineddata")
    languages = "+".join(sorted(path.stem for path in models if path.stem not in _NO_LANGUAGES))
    if not languages or find_spec(_PACKAGE) is None:
        return None
    os.environ["OMP_THREAD_LIMIT"] = "1"  # read as the library is loaded; no thread lives in a fork
    tesserocr = import_module(_PACKAGE)
    return tesserocr.PyTessBaseAPI(path=f"{_MODELS}/", lang=languages)


def words_of(document: pypdfium2.PdfDocument, number: int) -> str:
    """Return the text in the picture of a page, which may be none; pages count from 0.

    Needs an `engine`.
    """
    page = document[number]
    scale = min(_DPI / _POINTS_AN_INCH, _MAX_SIDE_PIXELS / max(page.get_size()))
    bitmap = page.render(scale=scale, grayscale=True)
    tesseract = engine()
    tesseract.SetImageBytes(bytes(bitmap.buffer), bitmap.width, bitmap.height, 1, bitmap.stride)
    tesseract.SetSourceResolution(int(scale * _POINTS_AN_INCH))
    text = str(tesseract.GetUTF8Text())
    tesseract.Clear()
    page.close()
    return text
