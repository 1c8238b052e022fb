"""Arithmetic in plain notation, exact in decimals, over a closed set of operators."""

import ast
import re
from collections.abc import Callable
from decimal import Context, Decimal, DecimalException

_MAX_CHARS = 200
_MAX_EXPONENT = 1000
_ARITHMETIC = Context(prec=34, Emax=9999, Emin=-9999)  # decimal128 (IEEE 754-2008)
_SHOWN = Context(prec=15)
_SIGNS = str.maketrans({"\u00d7": "*", "\u00f7": "/", "\u2212": "-", "\u00b7": "*", "^": "\x00"})
_ASKED = re.compile(
    r"\s*(?:(?:what(?:\u2019|')?s|what is|how much is|calculate|compute)\s+)?"
    r"(?P<expression>[\d\s.+\-*/()\u00d7\u00f7\u2212^%]+?)\s*[=?.]*\s*",
    re.IGNORECASE,
)
_SUM = re.compile(r"\d\)?\s*(?:[+*\u00d7\u00f7^]|\s[-/%\u2212]\s)\s*\(?\s*\d")
_BINARY: dict[type[ast.operator], Callable[[Decimal, Decimal], Decimal]] = {
    ast.Add: _ARITHMETIC.add,
    ast.Sub: _ARITHMETIC.subtract,
    ast.Mult: _ARITHMETIC.multiply,
    ast.Div: _ARITHMETIC.divide,
    ast.FloorDiv: _ARITHMETIC.divide_int,
    ast.Mod: _ARITHMETIC.remainder,
}


class NotArithmetic(ValueError):
    """What cannot be calculated; the message tells why, in words for people and models."""


def calculate(expression: str) -> str:
    """Return the value of an expression of + - * / // % ^ and brackets, to 15 digits.

    Raises:
        NotArithmetic: It is something else, too long, too large, or divides by zero.
    """
    if len(expression) > _MAX_CHARS:
        raise NotArithmetic(f"The expression is longer than {_MAX_CHARS} characters.")
    written = expression.translate(_SIGNS).replace("\x00", "**").strip()
    try:
        value = _value(ast.parse(written, mode="eval").body, written)
        rounded = _SHOWN.plus(value)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, NotArithmetic):
            raise
        raise NotArithmetic("That is no expression of numbers and + - * / // % ^ ( ).") from error
    except DecimalException as error:
        raise NotArithmetic("The result is not a number, or too large.") from error
    if not rounded.is_finite():
        raise NotArithmetic("The result is not a number, or too large.")
    is_plain = -15 < rounded.adjusted() < 18
    plain = f"{rounded:f}" if is_plain else f"{rounded}"
    return plain.rstrip("0").rstrip(".") if "." in plain and is_plain else plain


def asked_for(message: str) -> str | None:
    """Return the expression where a message asks for a sum and for nothing else.

    `24/7` and `2024-05-06` are no sums: those signs count between spaces only.
    """
    found = _ASKED.fullmatch(message)
    if found is None:
        return None
    expression = found["expression"].strip()
    return expression if _SUM.search(expression) else None


def _value(node: ast.expr, written: str) -> Decimal:
    match node:
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            # the digits as they were written: a float would have lost some
            return Decimal(ast.get_source_segment(written, node) or "")
        case ast.UnaryOp(op=ast.USub()):
            return _ARITHMETIC.minus(_value(node.operand, written))
        case ast.UnaryOp(op=ast.UAdd()):
            return _value(node.operand, written)
        case ast.BinOp(op=ast.Pow()):
            exponent = _value(node.right, written)
            if abs(exponent) > _MAX_EXPONENT:
                raise NotArithmetic(f"An exponent is larger than {_MAX_EXPONENT}.")
            return _ARITHMETIC.power(_value(node.left, written), exponent)
        case ast.BinOp() if (operation := _BINARY.get(type(node.op))) is not None:
            return operation(_value(node.left, written), _value(node.right, written))
    raise NotArithmetic("Only numbers and + - * / // % ^ ( ) can be calculated.")
