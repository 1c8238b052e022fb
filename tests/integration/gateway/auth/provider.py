"""An OpenID provider whose answers a test bends, to see that no bent one is believed."""

import base64
import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

CLIENT_ID = "polyplane"
CLIENT_SECRET = "secret of: the client"


@dataclass
class BentProvider:
    """Signs what `claims` and `header` say over what would be right."""

    issuer: str = ""
    claims: dict[str, Any] = field(default_factory=dict)
    key: Any = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    algorithm: str = "RS256"
    key_id: str = "first"
    signing_key: Any = None
    metadata: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    seen: list[dict[str, str]] = field(default_factory=list)
    key_requests: int = 0
    is_down: bool = False

    def authorize(self, query: dict[str, str], sub: str = "ada") -> str:
        """Return a code, as after a person has signed in."""
        code = f"code-{len(self.codes)}"
        self.codes[code] = {**query, "sub": sub}
        return code

    def app(self) -> FastAPI:
        """Return the provider's HTTP interface."""
        app = FastAPI()

        @app.middleware("http")
        async def fail(request: Request, call_next: Any) -> Any:
            return JSONResponse({}, 503) if self.is_down else await call_next(request)

        @app.get("/.well-known/openid-configuration")
        async def discovery() -> dict[str, Any]:
            return {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize?prompt=login",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "userinfo_endpoint": f"{self.issuer}/userinfo",
                **self.metadata,
            }

        @app.get("/keys")
        async def keys() -> dict[str, Any]:
            self.key_requests += 1
            return {"keys": [self.public_jwk()]}

        @app.get("/userinfo")
        async def userinfo() -> dict[str, Any]:
            return self.userinfo

        @app.post("/token")
        async def token(request: Request) -> JSONResponse:
            form = {key: each[0] for key, each in parse_qs((await request.body()).decode()).items()}
            self.seen.append({**form, "authorization": request.headers.get("authorization", "")})
            asked = self.codes.pop(form["code"], None)
            if asked is None or asked["code_challenge"] != challenge(form["code_verifier"]):
                return JSONResponse({"error": "invalid_grant"}, 400)
            answer = {"access_token": "opaque", "token_type": "Bearer"}
            return JSONResponse({**answer, "id_token": self.id_token(asked)})

        return app

    def public_jwk(self) -> dict[str, Any]:
        """Return the published key."""
        algorithm = jwt.get_algorithm_by_name("RS256")
        jwk = json.loads(algorithm.to_jwk(self.key.public_key()))
        return {**jwk, "kid": self.key_id, "use": "sig"}

    def id_token(self, asked: dict[str, str]) -> str:
        """Return a signed ID token."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "sub": asked["sub"],
            "nonce": asked["nonce"],
            "iat": now,
            "exp": now + 300,
            "email": f"{asked['sub']}@example.com",
            "email_verified": True,
            **self.claims,
        }
        claims = {key: value for key, value in claims.items() if value is not None}
        key = self.signing_key if self.algorithm != "RS256" or self.signing_key else self.key
        return jwt.encode(claims, key, algorithm=self.algorithm, headers={"kid": self.key_id})


def challenge(verifier: str) -> str:
    """Return the S256 challenge of RFC 7636."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
