"""What the servers beside the product share: where things are, tokens, and the answer's events."""

import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import jwt
import orjson
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

DATABASE_VARIABLE = "BESIDE_DATABASE_URL"
MAX_PROMPT_TOKENS = 4096
_CLAIMS = ["iss", "aud", "exp", "iat", "nbf", "jti", "sub", "tenant", "session", "sv"]

LIMIT_SCRIPT = """
-- The generic cell rate algorithm over two limits, counted against both or against none.
-- KEYS 1 the session 2... when the next request of each limit is due (µs); ARGV requests a minute
if redis.call('EXISTS', KEYS[1]) == 1 then return -1 end
local time = redis.call('TIME')
local now, dues = tonumber(time[1]) * 1000000 + tonumber(time[2]), {}
for each = 1, #ARGV do
    local interval = math.floor(60000000 / tonumber(ARGV[each]))
    local due = math.max(tonumber(redis.call('GET', KEYS[each + 1]) or '0'), now) + interval
    if due - now > 60000000 then return 0 end
    dues[each] = due
end
for each, due in ipairs(dues) do
    local lives = math.ceil((due - now) / 1000)
    redis.call('SET', KEYS[each + 1], string.format('%.0f', due), 'PX', lives)
end
return 1
"""
LIMITS = (1_000_000, 1_000_000)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the stores and the upstream are, and what signs tokens."""

    port: int
    database_url: str
    redis_url: str
    upstream_url: str
    upstream_secret: str
    keys: dict[str, Ed25519PublicKey]

    @classmethod
    def read(cls) -> Self:
        """Read the environment that a gateway has, and the database's owner."""
        found = os.environ
        folder = Path(found["GATEWAY_KEYS_DIR"])
        return cls(
            port=int(found["GATEWAY_PORT"]),
            database_url=found[DATABASE_VARIABLE],
            redis_url=found["REDIS_URL"],
            upstream_url=found["GATEWAY_SERVING_URL"] + "/v1/answer",
            upstream_secret=found["SERVING_TOKEN_SECRET"],
            keys=_keys(folder),
        )

    def verified(self, token: str) -> dict[str, Any]:
        """Return what an access token says.

        Raises:
            jwt.PyJWTError: It is not valid.
            KeyError: Its key is unknown.
        """
        key = self.keys[jwt.get_unverified_header(token)["kid"]]
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=["EdDSA"],
            audience="polyplane-api",
            issuer="polyplane",
            options={"require": _CLAIMS},
        )
        return claims


def _keys(folder: Path) -> dict[str, Ed25519PublicKey]:
    """Return the public keys by their thumbprints (RFC 7638)."""
    found = {}
    for path in folder.glob("*.pem"):
        key = load_pem_private_key(path.read_bytes(), None).public_key()
        assert isinstance(key, Ed25519PublicKey)
        found[_thumbprint(key)] = key
    return found


def _thumbprint(key: Ed25519PublicKey) -> str:
    members = jwt.algorithms.OKPAlgorithm.to_jwk(key, as_dict=True)
    told = orjson.dumps({name: members[name] for name in ("crv", "kty", "x")})
    return jwt.utils.base64url_encode(sha256(told).digest()).decode()


def done_of(events: bytes) -> dict[str, Any]:
    """Return the last event of an answer, `done`."""
    last = events[: events.rindex(b"\n\n")].rpartition(b"\n\n")[2]
    found: dict[str, Any] = orjson.loads(last[last.index(b"data: ") + 6 :])
    return found


def serve(app: Any, port: int) -> None:
    """Serve on uvicorn's fastest parts, without a log."""
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
    )
