"""Access tokens: what is accepted, and all that is not."""

import base64
import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from planes.shared.domain import Role, TenantContext, new_id
from planes.shared.errors import Unauthenticated
from services.gateway.auth.keys import NoSigningKey, SigningKeys
from services.gateway.auth.models import AccessClaims
from services.gateway.auth.tokens import AccessTokens, RefreshTokens, TokenRules
from services.gateway.limits.versions import Version

CLAIMS = AccessClaims(TenantContext(new_id(), new_id()), Role.MEMBER, new_id(), Version(3, 5))
RULES = TokenRules()


class Clock:
    """Time that stands until a test moves it."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(tmp_path: Path, clock: Clock) -> SigningKeys:
    keys = SigningKeys(tmp_path / "keys", clock=clock)
    keys.open()
    return keys


@pytest.fixture
def token_clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(keys: SigningKeys, token_clock: Clock) -> AccessTokens:
    return AccessTokens(keys, RULES, new_id=new_id, clock=token_clock)


def new_key(folder: Path, name: str, written_at: float) -> Ed25519PrivateKey:
    private = Ed25519PrivateKey.generate()
    path = folder / name
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    os.utime(path, (written_at, written_at))
    return private


def test_a_token_says_what_it_was_made_for(tokens: AccessTokens) -> None:
    token = tokens.mint(CLAIMS)
    assert tokens.verify(token) == CLAIMS
    header = jwt.get_unverified_header(token)
    assert (header["typ"], header["alg"]) == ("at+jwt", "EdDSA")
    payload = jwt.decode(token, options={"verify_signature": False})
    assert payload["exp"] - payload["iat"] <= 600
    assert payload.keys() == {
        *("iss", "aud", "exp", "iat", "nbf", "jti", "sub", "tenant", "role", "session", "sv")
    }


def resigned(change: dict[str, Any], header: dict[str, Any] | None = None) -> Callable[..., str]:
    """Return a forger with the gateway's own key: a None takes a claim away."""

    def forge(token: str, keys: SigningKeys) -> str:
        payload = jwt.decode(token, options={"verify_signature": False})
        payload = {k: v for k, v in {**payload, **change}.items() if v is not None}
        key = keys.current()
        headers = {"kid": key.id, "typ": "at+jwt", **(header or {})}
        return jwt.encode(payload, key.private, algorithm="EdDSA", headers=headers)

    return forge


def unsigned(token: str, keys: SigningKeys) -> str:
    payload = jwt.decode(token, options={"verify_signature": False})
    headers = {"kid": keys.current().id, "typ": "at+jwt"}
    return jwt.encode(payload, "", algorithm="none", headers=headers)


def with_header(*, claims: dict[str, Any] | None = None, **change: Any) -> Callable[..., str]:
    """Return a forger with the gateway's own key, who writes what libraries would not."""

    def forge(token: str, keys: SigningKeys) -> str:
        key = keys.current()
        header = json.dumps({"alg": "EdDSA", "typ": "at+jwt", "kid": key.id, **change})
        payload = jwt.decode(token, options={"verify_signature": False})
        body = f"{encoded(header)}.{encoded(json.dumps({**payload, **(claims or {})}))}"
        signature = base64.urlsafe_b64encode(key.private.sign(body.encode())).rstrip(b"=")
        return f"{body}.{signature.decode()}"

    return forge


def signed_with_the_public_key_as_a_secret(token: str, keys: SigningKeys) -> str:
    key = keys.current()
    encode = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=")  # noqa: E731
    header = encode(json.dumps({"alg": "HS256", "typ": "at+jwt", "kid": key.id}).encode())
    body = header + b"." + token.split(".")[1].encode()
    secret = key.public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    signer = jwt.get_algorithm_by_name("HS256")
    return (body + b"." + encode(signer.sign(body, secret))).decode()


def signed_by_a_stranger(**header: Any) -> Callable[..., str]:
    """Return a forger with a key of their own, which the header may bring along."""

    def forge(token: str, keys: SigningKeys) -> str:
        payload = jwt.decode(token, options={"verify_signature": False})
        private = Ed25519PrivateKey.generate()
        jwk = jwt.algorithms.OKPAlgorithm.to_jwk(private.public_key(), as_dict=True)
        brought = {k: {**jwk, "kid": "mine"} if v is Ellipsis else v for k, v in header.items()}
        headers = {"kid": keys.current().id, "typ": "at+jwt", **brought}
        return jwt.encode(payload, private, algorithm="EdDSA", headers=headers)

    return forge


def signed_by_another_algorithm(name: str) -> Callable[..., str]:
    """Return a forger with a good key of another kind."""

    def forge(token: str, keys: SigningKeys) -> str:
        payload = jwt.decode(token, options={"verify_signature": False})
        private = (
            rsa.generate_private_key(65537, 2048)
            if name == "RS256"
            else ec.generate_private_key(ec.SECP256R1())
        )
        headers = {"kid": keys.current().id, "typ": "at+jwt"}
        return jwt.encode(payload, private, algorithm=name, headers=headers)

    return forge


def tampered(**change: Any) -> Callable[..., str]:
    """Return a forger without a key, who changes claims and keeps the signature."""

    def forge(token: str, _: SigningKeys) -> str:
        header, payload, signature = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
        return f"{header}.{encoded(json.dumps({**claims, **change}))}.{signature}"

    return forge


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def with_members_twice(token: str, _: SigningKeys) -> str:
    """Both members of a name stand in the header; parsers differ in which they take."""
    header, payload, signature = token.split(".")
    text = base64.urlsafe_b64decode(header + "==").decode()
    doubled = encoded(text.replace("{", '{"alg":"none",', 1))
    return f"{doubled}.{payload}.{signature}"


# The numbers are RFC 8725's sections (best current practices of JSON Web Tokens).
FORGERIES: dict[str, Callable[[str, SigningKeys], str]] = (
    {
        # 3.1, 3.2: algorithms are ours to choose, not the token's
        "no algorithm": unsigned,
        "no algorithm, in other letters": with_header(alg="nOnE"),
        "a secret that everyone knows": signed_with_the_public_key_as_a_secret,
        "ES256": signed_by_another_algorithm("ES256"),
        "RS256": signed_by_another_algorithm("RS256"),
        # 3.3: every signature is checked
        "another signer": signed_by_a_stranger(),
        "another role": tampered(role="owner"),
        "another tenant": tampered(tenant=str(new_id())),
        "another user": tampered(sub=str(new_id())),
        "another session": tampered(session=str(new_id())),
        "a later version": tampered(sv=4),
        "a later expiry": tampered(exp=4_000_000_000),
        "members twice": with_members_twice,
        "no signature": lambda token, _: token.rpartition(".")[0] + ".",
        "half a signature": lambda token, _: token[:-43],
        "two signatures": lambda token, _: token + "." + token.rpartition(".")[2],
        # 3.7: one form of a token only
        "not a token": lambda token, _: "x",  # noqa: ARG005
        "nothing": lambda token, _: "",  # noqa: ARG005
        "endless": lambda token, _: token + "a" * 5000,
        "an endless payload": resigned({"jti": "a" * 5000}),
        "a space before": lambda token, _: " " + token,
        "a line feed behind": lambda token, _: token + "\n",
        "a space in the signature": lambda token, _: token[:-5] + " " + token[-5:],
        "padding": lambda token, _: token + "==",
        "letters like ours": lambda token, _: token.replace(token[5], "\u0435", 1),
        "half a character": lambda token, _: token + "\ud800",
        "a NUL": lambda token, _: token + "\x00",
        "JSON serialization": lambda token, _: json.dumps({"payload": token}),
        # 3.10: what a header claims of keys is not trusted
        "another kid": resigned({}, {"kid": "unknown"}),
        "no kid": resigned({}, {"kid": ""}),
        "a path as kid": resigned({}, {"kid": "../../etc/passwd"}),
        "our folder as kid": resigned({}, {"kid": "first.pem"}),
        "a query as kid": resigned({}, {"kid": "' OR 1=1 --"}),
        "a kid that is a number": with_header(kid=7),
        "a kid that is a list": with_header(kid=[]),
        "its own key": signed_by_a_stranger(jwk=...),
        "its own key by name": signed_by_a_stranger(jwk=..., kid="mine"),
        "keys from an address": signed_by_a_stranger(jku="https://example.com/jwks.json"),
        "a certificate from an address": signed_by_a_stranger(x5u="https://example.com/x.pem"),
        "a certificate": signed_by_a_stranger(x5c=["MIIB"]),
        "an extension that we do not know": with_header(crit=["exp2"], exp2=1),
        "a payload that is not encoded": with_header(crit=["b64"], b64=False),
        # 3.11: types tell kinds of tokens apart
        "another type": resigned({}, {"typ": "JWT"}),
        "no type": resigned({}, {"typ": None}),
        "the serving plane's type": resigned({}, {"typ": "serving+jwt"}),
        # 3.8, 3.9: issuer and audience
        "another audience": resigned({"aud": "polyplane-serving"}),
        "several audiences": resigned({"aud": [RULES.audience, "other"]}),
        "our audience in a list": resigned({"aud": [RULES.audience]}),
        "another issuer": resigned({"iss": "mallory"}),
        "several issuers": with_header(claims={"iss": [RULES.issuer]}),
        # RFC 7519, 4.1, and RFC 9068, 2.2: times are numbers that make sense together
        "expired": resigned({"exp": 1_700_000_000}),
        "far too long a life": resigned({"exp": 4_000_000_000}),
        "an expiry with a fraction": resigned({"exp": time.time() + 300.5}),
        "an expiry as text": resigned({"exp": str(int(time.time()) + 300)}),
        "an expiry beyond numbers": resigned({"exp": 10**400}),
        "not valid yet": resigned({"nbf": 4_000_000_000}),
        "from the future": resigned({"iat": 4_000_000_000}),
        "a beginning as text": resigned({"nbf": "0"}),
        # claims of ours
        "a role that is none": resigned({"role": "root"}),
        "two roles": resigned({"role": ["member", "owner"]}),
        "a version as text": resigned({"sv": "3"}),
        "a version as truth": resigned({"sv": True}),
        "a tenant that is no id": resigned({"tenant": "acme"}),
        "a tenant that is a number": resigned({"tenant": 7}),
        "a user that is a list": resigned({"sub": [str(new_id())]}),
    }
    | {
        f"no {claim}": resigned({claim: None})
        for claim in (
            "iss",
            "aud",
            "exp",
            "iat",
            "nbf",
            "jti",
            "sub",
            "tenant",
            "role",
            "session",
            "sv",
        )
    }
)


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forged_token_is_refused(
    forge: Callable[[str, SigningKeys], str], tokens: AccessTokens, keys: SigningKeys
) -> None:
    genuine = tokens.mint(CLAIMS)
    forged = forge(genuine, keys)
    for _ in range(2):
        with pytest.raises(Unauthenticated) as refusal:
            tokens.verify(forged)
        assert refusal.value.detail == "The access token is not valid. Sign in again."
    assert tokens.verify(genuine) == CLAIMS
    with pytest.raises(Unauthenticated):
        tokens.verify(forged)


def test_the_forger_of_this_table_makes_valid_tokens_where_nothing_is_changed(
    tokens: AccessTokens, keys: SigningKeys
) -> None:
    assert tokens.verify(resigned({})(tokens.mint(CLAIMS), keys)) == CLAIMS


def test_a_remembered_token_expires_all_the_same(tokens: AccessTokens, token_clock: Clock) -> None:
    token = tokens.mint(CLAIMS)
    token_clock.now -= 700
    old = tokens.mint(CLAIMS)
    token_clock.now += 700
    assert tokens.verify(token) == CLAIMS
    with pytest.raises(Unauthenticated):
        tokens.verify(old)
    token_clock.now += RULES.lifetime_s + RULES.leeway_s + 1
    with pytest.raises(Unauthenticated):
        tokens.verify(token)


def test_a_new_key_is_published_before_it_signs(
    keys: SigningKeys, tokens: AccessTokens, clock: Clock, tmp_path: Path
) -> None:
    first = keys.current().id
    clock.now += 100
    new_key(tmp_path / "keys", "second.pem", clock.now)
    clock.now += 11
    assert len(keys.jwks()["keys"]) == 2
    assert keys.current().id == first
    clock.now += 60
    assert keys.current().id != first
    assert tokens.verify(tokens.mint(CLAIMS)) == CLAIMS


def test_a_token_of_a_key_that_another_process_added_is_accepted_after_a_second(
    tokens: AccessTokens, clock: Clock, tmp_path: Path
) -> None:
    tokens.mint(CLAIMS)
    folder = tmp_path / "keys"
    new_key(folder, "second.pem", clock.now - 100)
    other = SigningKeys(folder, clock=clock)
    other.open()
    (folder / "first.pem").rename(folder / "first.retired")
    other.open()
    token = AccessTokens(other, RULES, new_id=new_id).mint(CLAIMS)
    with pytest.raises(Unauthenticated):
        tokens.verify(token)
    clock.now += 1
    assert tokens.verify(token) == CLAIMS


def test_a_withdrawn_key_voids_its_tokens(
    keys: SigningKeys, tokens: AccessTokens, clock: Clock, tmp_path: Path
) -> None:
    token = tokens.mint(CLAIMS)
    assert tokens.verify(token) == CLAIMS
    new_key(tmp_path / "keys", "second.pem", clock.now)
    (tmp_path / "keys/first.pem").unlink()
    clock.now += 11
    keys.jwks()
    with pytest.raises(Unauthenticated):
        tokens.verify(token)


def test_a_half_written_key_does_not_stop_a_running_gateway(
    tokens: AccessTokens, clock: Clock, tmp_path: Path
) -> None:
    (tmp_path / "keys/second.pem").write_text("-----BEGIN")
    clock.now += 11
    assert tokens.verify(tokens.mint(CLAIMS)) == CLAIMS
    with pytest.raises(NoSigningKey):
        SigningKeys(tmp_path / "keys", clock=clock).open()


def test_keys_are_made_once_and_only_their_owner_reads_them(
    keys: SigningKeys, tmp_path: Path
) -> None:
    again = SigningKeys(tmp_path / "keys")
    again.open()
    assert again.current().id == keys.current().id
    [path] = (tmp_path / "keys").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_published_keys_verify_tokens_and_hold_nothing_private(
    keys: SigningKeys, tokens: AccessTokens
) -> None:
    token = tokens.mint(CLAIMS)
    [published] = keys.jwks()["keys"]
    assert published.keys() == {"kty", "crv", "x", "kid", "use", "alg"}
    payload = jwt.decode(
        token, jwt.PyJWK(published).key, algorithms=["EdDSA"], audience=RULES.audience
    )
    assert UUID(payload["sub"]) == CLAIMS.context.user_id


@pytest.mark.parametrize("rules", [{"lifetime_s": 601}, {"lifetime_s": 0}, {"leeway_s": 61}])
def test_tokens_that_live_too_long_cannot_be_configured(rules: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="second"):
        TokenRules(**rules)  # type: ignore[arg-type]


def test_a_refresh_token_has_one_successor_that_only_the_key_tells() -> None:
    ours, theirs = RefreshTokens("a" * 32), RefreshTokens("b" * 32)
    token = ours.first()
    assert ours.successor(token) == ours.successor(token)
    assert len({token, ours.successor(token), theirs.successor(token), ours.first()}) == 4
    with pytest.raises(ValueError, match="GATEWAY_REFRESH_SECRET"):
        RefreshTokens("short")
