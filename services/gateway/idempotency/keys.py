"""Idempotency keys and fingerprints of requests (draft-ietf-httpapi-idempotency-key-header-07)."""

import hashlib
import json
import re
from collections.abc import Mapping

from planes.shared.errors import BadRequest

MAX_KEY_CHARS = 255
# A string of RFC 9651 (3.3.3), or the same characters without quotes, which most clients send.
_QUOTED = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_BARE = re.compile(r"[\x21\x23-\x7e][\x20-\x7e]*")
_ESCAPED = re.compile(r"\\(.)")


def parse_key(values: list[str]) -> str | None:
    """Return the key of a request, without quotes; None where the header is absent.

    Args:
        values: Every value of the header `Idempotency-Key`.

    Raises:
        BadRequest: There are several, or it is not 1 to 255 printable ASCII characters.
    """
    if not values:
        return None
    value = values[0].strip()
    quoted = _QUOTED.fullmatch(value)
    key = _ESCAPED.sub(r"\1", quoted[1]) if quoted else value
    is_wellformed = quoted is not None or _BARE.fullmatch(value) is not None
    if len(values) > 1 or not is_wellformed or not 1 <= len(key) <= MAX_KEY_CHARS:
        raise BadRequest(
            f"`Idempotency-Key` is one string of 1 to {MAX_KEY_CHARS} printable ASCII characters; "
            "a UUID does well."
        )
    return key


def fingerprint(operation: str, content: Mapping[str, object]) -> bytes:
    """Return the SHA-256 of a request: the same for the same JSON, however it was written.

    Args:
        operation: The method and the path with its parameters.
        content: What the client sent, as JSON values.
    """
    canonical = json.dumps([operation, content], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).digest()
