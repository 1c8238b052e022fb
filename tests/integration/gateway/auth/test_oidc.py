"""Signing in by an OpenID provider: a real one, and one that bends its answers."""

import asyncio
import base64
import hashlib
import hmac
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from planes.shared.stores.postgres import Database
from services.embedded.ports import free_port
from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings
from tests.integration.gateway.auth.mailbox import Mailbox, open_mailbox
from tests.integration.gateway.auth.provider import CLIENT_ID, CLIENT_SECRET, BentProvider
from tests.integration.gateway.conftest import PASSWORD, Gateway, served

pytestmark = pytest.mark.integration

RETURN = pytest.mark.parametrize(
    "return_url", ["https://chat.example.com/signed-in"], indirect=True
)


@pytest.fixture
async def provider() -> AsyncIterator[BentProvider]:
    provider = BentProvider()
    async with served(provider.app()) as url:
        provider.issuer = url
        yield provider


@pytest.fixture
def return_url(request: pytest.FixtureRequest) -> str | None:
    return getattr(request, "param", None)


@pytest.fixture
def overrides(provider: BentProvider, return_url: str | None) -> dict[str, object]:
    return {
        "oidc_issuer": provider.issuer,
        "oidc_client_id": CLIENT_ID,
        "oidc_client_secret": CLIENT_SECRET,
        "oidc_return_url": return_url,
        "public_url": "http://127.0.0.1:8000",
    }


@pytest.fixture
async def http(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """A browser, which keeps cookies."""
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as http:
        yield http


@pytest.fixture
async def database(database_urls: dict[str, str]) -> AsyncIterator[Database]:
    database = Database(database_urls["admin"], service="test")
    await database.open()
    yield database
    await database.close()


async def begin(http: httpx.AsyncClient, **query: str) -> dict[str, str]:
    """Begin a sign-in and return what the provider is asked."""
    answer = await http.get("/auth/oidc/login", params=query)
    assert answer.status_code == 307, answer.text
    return dict(parse_qsl(urlsplit(answer.headers["location"]).query))


async def end(http: httpx.AsyncClient, **query: str) -> httpx.Response:
    return await http.get("/auth/oidc/callback", params=query)


async def sign_in(
    http: httpx.AsyncClient, provider: BentProvider, sub: str = "ada", **query: str
) -> httpx.Response:
    asked = await begin(http, **query)
    code = provider.authorize(asked, sub)
    return await end(http, code=code, state=asked["state"])


async def me(http: httpx.AsyncClient, tokens: dict[str, str]) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {tokens['access_token']}"}
    answer = await http.get("/auth/me", headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def register(http: httpx.AsyncClient, email: str) -> dict[str, Any]:
    answer = await http.post("/auth/register", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_a_new_person_gets_an_account_and_finds_it_again(
    http: httpx.AsyncClient, provider: BentProvider
) -> None:
    provider.claims = {"name": "Ada Lovelace"}
    answer = await sign_in(http, provider)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    first = await me(http, answer.json())
    assert first["user"]["email"] == "ada@example.com"
    assert first["user"]["role"] == "owner"
    assert first["tenant"]["name"] == "Ada Lovelace's workspace"
    provider.claims = {"email": "renamed@example.com"}
    again = await me(http, (await sign_in(http, provider)).json())
    assert again == first  # the subject counts, not the address
    by_password = {"email": "ada@example.com", "password": PASSWORD}
    wrong = await http.post("/auth/login", json=by_password)
    unknown = await http.post("/auth/login", json=by_password | {"email": "eve@example.com"})
    assert wrong.status_code == 401
    assert wrong.json() | {"trace_id": ""} == unknown.json() | {"trace_id": ""}


async def test_the_provider_is_asked_with_fresh_secrets_and_pkce(
    http: httpx.AsyncClient, provider: BentProvider
) -> None:
    first, second = await begin(http), await begin(http)
    assert first["prompt"] == "login"  # what the endpoint had already
    assert first["response_type"] == "code"
    assert first["redirect_uri"] == "http://127.0.0.1:8000/auth/oidc/callback"
    assert first["code_challenge_method"] == "S256"
    for name in ("state", "nonce", "code_challenge"):
        assert len(first[name]) == 43
        assert first[name] != second[name]
    await end(http, code=provider.authorize(second), state=second["state"])
    [request] = provider.seen  # which has checked the verifier against the challenge
    basic = base64.b64decode(request["authorization"].removeprefix("Basic "))
    assert basic == b"polyplane:secret+of%3A+the+client"
    assert "client_secret" not in request


async def test_the_cookie_is_kept_from_scripts_and_forgotten_at_the_end(
    http: httpx.AsyncClient, provider: BentProvider
) -> None:
    begun = await http.get("/auth/oidc/login")
    cookie = begun.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "max-age=600" in cookie
    asked = dict(parse_qsl(urlsplit(begun.headers["location"]).query))
    answer = await end(http, code=provider.authorize(asked), state=asked["state"])
    assert answer.status_code == 200
    assert not http.cookies


@RETURN
async def test_tokens_never_stand_in_an_address(
    http: httpx.AsyncClient, provider: BentProvider, return_url: str
) -> None:
    answer = await sign_in(http, provider)
    assert answer.status_code == 303
    page, _, fragment = answer.headers["location"].partition("#")
    assert page == return_url
    [(name, code)] = parse_qsl(fragment)
    assert name == "code"
    bodies = [{"code": code}] * 5
    redeemed = await asyncio.gather(*(http.post("/auth/oidc/token", json=each) for each in bodies))
    assert sorted(each.status_code for each in redeemed) == [200] + [400] * 4
    [tokens] = [each.json() for each in redeemed if each.status_code == 200]
    assert (await me(http, tokens))["user"]["email"] == "ada@example.com"


@RETURN
async def test_failures_reach_the_operators_page_too(
    http: httpx.AsyncClient, provider: BentProvider, return_url: str
) -> None:
    asked = await begin(http)
    answer = await end(http, error="access_denied", state=asked["state"])
    assert answer.headers["location"] == f"{return_url}#error=unauthenticated"
    assert not provider.seen


async def test_a_code_opens_one_session(http: httpx.AsyncClient, provider: BentProvider) -> None:
    asked = await begin(http)
    cookies = dict(http.cookies)
    query = {"code": provider.authorize(asked), "state": asked["state"]}
    assert (await end(http, **query)).status_code == 200
    assert (await end(http, **query)).status_code == 400  # the attempt is over in this browser
    http.cookies.update(cookies)
    assert (await end(http, **query)).status_code == 401  # and the code everywhere


@pytest.mark.parametrize("state", ["", "wrong", "é"])
async def test_an_answer_to_another_attempt_is_refused(
    state: str, http: httpx.AsyncClient, provider: BentProvider
) -> None:
    asked = await begin(http)
    answer = await end(http, code=provider.authorize(asked), state=state)
    assert answer.status_code == 400
    assert not provider.seen


async def test_another_browser_cannot_finish_a_sign_in(
    http: httpx.AsyncClient, provider: BentProvider
) -> None:
    asked = await begin(http)
    async with httpx.AsyncClient(base_url=http.base_url) as other:
        query = {"code": provider.authorize(asked), "state": asked["state"]}
        assert (await end(other, **query)).status_code == 400
        await begin(other)
        assert (await end(other, **query)).status_code == 400
        cookie = dict(http.cookies).popitem()
        other.cookies.clear()
        other.cookies.set(cookie[0], cookie[1][:-2])  # somebody made it up
        assert (await end(other, **query)).status_code == 400


async def test_a_code_of_another_attempt_is_refused_by_its_verifier(
    http: httpx.AsyncClient, provider: BentProvider
) -> None:
    victim = await begin(http)
    attacker = await begin(http)
    answer = await end(http, code=provider.authorize(victim), state=attacker["state"])
    assert answer.status_code == 401
    assert len(provider.seen) == 1


async def test_an_answer_that_names_another_issuer_is_refused(
    http: httpx.AsyncClient, provider: BentProvider
) -> None:
    asked = await begin(http)
    query = {"code": provider.authorize(asked), "state": asked["state"]}
    assert (await end(http, **query, iss="https://evil.example")).status_code == 401
    assert not provider.seen


async def test_an_issuer_that_promises_its_name_must_give_it(
    http: httpx.AsyncClient, provider: BentProvider
) -> None:
    provider.metadata = {"authorization_response_iss_parameter_supported": True}
    assert (await sign_in(http, provider)).status_code == 401
    asked = await begin(http)
    query = {"code": provider.authorize(asked), "state": asked["state"]}
    assert (await end(http, **query, iss=provider.issuer)).status_code == 200


def _hmac_by_public_key(provider: BentProvider) -> Callable[[dict[str, str]], str]:
    """Sign as HS256 with the public key as the secret: what RFC 8725, 2.1 warns of."""
    honest = provider.id_token

    def id_token(asked: dict[str, str]) -> str:
        _, payload, _ = honest(asked).split(".")
        header = json.dumps({"alg": "HS256", "kid": provider.key_id, "typ": "JWT"}).encode()
        text = base64.urlsafe_b64encode(header).rstrip(b"=") + b"." + payload.encode()
        secret = provider.key.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        tag = base64.urlsafe_b64encode(hmac.digest(secret, text, "sha256")).rstrip(b"=")
        return (text + b"." + tag).decode()

    return id_token


BENT_CLAIMS: dict[str, dict[str, Any]] = {
    "another nonce": {"nonce": "x" * 43},
    "no nonce": {"nonce": None},
    "another audience": {"aud": "somebody-else"},
    "several audiences without a party": {"aud": [CLIENT_ID, "somebody-else"]},
    "another party": {"azp": "somebody-else"},
    "another issuer": {"iss": "https://evil.example"},
    "expired": {"exp": 1_700_000_000},
    "no expiry": {"exp": None},
    "made tomorrow": {"iat": 4_000_000_000},
    "no subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "another access token": {"at_hash": "x" * 22},
}


def _bend_signature(provider: BentProvider, how: str) -> None:
    if how == "unsigned":
        provider.algorithm = "none"
    if how == "signed by a stranger":
        provider.signing_key = rsa.generate_private_key(65537, 2048)
    if how == "signed by the public key":
        provider.id_token = _hmac_by_public_key(provider)  # type: ignore[method-assign]
    if how == "no token at all":
        provider.id_token = lambda _: ""  # type: ignore[method-assign]


async def test_id_tokens_with_bent_claims_are_not_believed(
    http: httpx.AsyncClient, provider: BentProvider, database: Database
) -> None:
    for how, claims in BENT_CLAIMS.items():
        provider.claims = claims
        answer = await sign_in(http, provider)
        assert answer.status_code == 401, how
        assert "access_token" not in answer.text
    async with database.platform() as connection:
        assert await connection.fetchval("SELECT count(*) FROM users") == 0
    provider.claims = {}
    assert (await sign_in(http, provider)).status_code == 200


@pytest.mark.parametrize(
    "how", ["unsigned", "signed by a stranger", "signed by the public key", "no token at all"]
)
async def test_an_id_token_that_the_provider_did_not_sign_is_not_believed(
    how: str, http: httpx.AsyncClient, provider: BentProvider
) -> None:
    _bend_signature(provider, how)
    answer = await sign_in(http, provider)
    assert answer.status_code == 401, answer.text
    assert "access_token" not in answer.text


async def test_a_right_at_hash_is_accepted(http: httpx.AsyncClient, provider: BentProvider) -> None:
    digest = hashlib.sha256(b"opaque").digest()[:16]
    provider.claims = {"at_hash": base64.urlsafe_b64encode(digest).rstrip(b"=").decode()}
    assert (await sign_in(http, provider)).status_code == 200


async def test_new_keys_are_fetched_but_not_for_every_forged_name(
    http: httpx.AsyncClient, provider: BentProvider
) -> None:
    assert (await sign_in(http, provider)).status_code == 200
    provider.key_id = "second"
    for _ in range(3):
        await sign_in(http, provider)
    assert provider.key_requests <= 2


async def test_an_address_may_come_from_userinfo_of_the_same_subject(
    http: httpx.AsyncClient, provider: BentProvider
) -> None:
    provider.claims = {"email": None, "email_verified": None}
    provider.userinfo = {"sub": "eve", "email": "eve@example.com", "email_verified": True}
    assert (await sign_in(http, provider)).status_code == 403
    provider.userinfo = {"sub": "ada", "email": "ada@example.com", "email_verified": True}
    answer = await sign_in(http, provider)
    assert (await me(http, answer.json()))["user"]["email"] == "ada@example.com"


@pytest.mark.parametrize(
    ("provider_says", "we_know"), [(True, False), (False, True), (False, False)]
)
async def test_an_account_is_not_linked_unless_both_sides_know_the_address(
    provider_says: bool,
    we_know: bool,
    http: httpx.AsyncClient,
    provider: BentProvider,
    database: Database,
) -> None:
    await register(http, "ada@example.com")
    if we_know:
        await _confirm_everybody(database)
    provider.claims = {"email_verified": provider_says}
    assert (await sign_in(http, provider)).status_code == 409
    async with database.platform() as connection:
        assert await connection.fetchval("SELECT count(*) FROM user_identities") == 0


async def test_an_account_is_linked_when_both_sides_know_the_address(
    http: httpx.AsyncClient, provider: BentProvider, database: Database
) -> None:
    account = await register(http, "ada@example.com")
    await _confirm_everybody(database)
    answer = await sign_in(http, provider)
    assert (await me(http, answer.json()))["user"] == account["user"]
    async with database.platform() as connection:
        rows = await connection.fetch(
            "SELECT details FROM audit_log WHERE action = 'user.identity-linked'"
        )
    assert [row["details"] for row in rows] == [{"issuer": provider.issuer}]


class TestVerification:
    """Where addresses are to be confirmed."""

    @pytest.fixture
    async def mailbox(self) -> AsyncIterator[Mailbox]:
        async with open_mailbox() as mailbox:
            yield mailbox

    @pytest.fixture
    def overrides(self, provider: BentProvider, mailbox: Mailbox) -> dict[str, object]:
        return {
            "oidc_issuer": provider.issuer,
            "oidc_client_id": CLIENT_ID,
            "oidc_client_secret": CLIENT_SECRET,
            "public_url": "http://127.0.0.1:8000",
            "smtp_host": "127.0.0.1",
            "smtp_port": mailbox.port,
            "smtp_tls": "none",
            "mail_from": "Polyplane <noreply@polyplane.example>",
            "email_verification": True,
        }

    @pytest.mark.parametrize("later", [None, "eve@example.com"])
    async def test_what_the_provider_says_later_confirms_no_address(
        self, later: str | None, http: httpx.AsyncClient, provider: BentProvider, mailbox: Mailbox
    ) -> None:
        provider.claims = {"email_verified": False}
        assert (await sign_in(http, provider)).status_code == 403
        token = await mailbox.token("ada@example.com", "Confirm")
        provider.claims = {"email": later, "email_verified": None}
        provider.userinfo = {"sub": "ada"}
        assert (await sign_in(http, provider)).status_code == 403
        assert (await http.post("/auth/verify", json={"token": token})).status_code == 204
        answer = await sign_in(http, provider)
        assert (await me(http, answer.json()))["user"]["email"] == "ada@example.com"


async def test_a_proof_of_one_address_is_none_of_another(
    http: httpx.AsyncClient, provider: BentProvider, database: Database
) -> None:
    await register(http, "ada@example.com")
    await _confirm_everybody(database)
    provider.claims = {"email": None, "email_verified": True}
    provider.userinfo = {"sub": "ada", "email": "ada@example.com"}
    assert (await sign_in(http, provider)).status_code == 409


async def _confirm_everybody(database: Database) -> None:
    async with database.platform() as connection:
        await connection.execute("UPDATE users SET email_verified_at = now()")


async def test_a_disabled_person_is_kept_out(
    http: httpx.AsyncClient, provider: BentProvider, database: Database
) -> None:
    assert (await sign_in(http, provider)).status_code == 200
    async with database.platform() as connection:
        await connection.execute("UPDATE users SET disabled_at = now()")
    assert (await sign_in(http, provider)).status_code == 401


async def test_a_tenant_of_others_cannot_be_entered(
    http: httpx.AsyncClient, provider: BentProvider
) -> None:
    other = await register(http, "bob@example.com")
    first = await me(http, (await sign_in(http, provider)).json())
    own = first["tenant"]["id"]
    assert (await sign_in(http, provider, tenant_id=own)).status_code == 200
    foreign = await sign_in(http, provider, tenant_id=other["tenant"]["id"])
    assert foreign.status_code == 404


async def test_a_provider_that_is_down_is_a_503_and_comes_back(
    http: httpx.AsyncClient, provider: BentProvider
) -> None:
    provider.is_down = True
    assert (await http.get("/auth/oidc/login")).status_code == 503
    provider.is_down = False
    asked = await begin(http)
    provider.is_down = True
    query = {"code": provider.authorize(asked), "state": asked["state"]}
    assert (await end(http, **query)).status_code == 503


@pytest.mark.parametrize(
    "metadata", [{"issuer": "https://evil.example"}, {"token_endpoint": "http://evil.example/"}]
)
async def test_a_discovery_document_of_somebody_else_is_not_used(
    metadata: dict[str, str], http: httpx.AsyncClient, provider: BentProvider
) -> None:
    provider.metadata = metadata
    assert (await http.get("/auth/oidc/login")).status_code == 503


async def test_without_a_provider_the_routes_say_so(gateway: Gateway) -> None:
    settings = gateway.app.state.settings.model_copy(update={"oidc_issuer": None})
    async with served(create_app(settings)) as url, httpx.AsyncClient(base_url=url) as http:
        for answer in (
            await http.get("/auth/oidc/login"),
            await http.get("/auth/oidc/callback"),
            await http.post("/auth/oidc/token", json={"code": "any"}),
        ):
            assert answer.status_code == 404
            assert answer.json()["type"] == "urn:polyplane:problem:oidc-not-configured"


async def test_a_real_provider_lets_people_in(gateway: Gateway) -> None:
    port = free_port()
    ada = {"sub": "ada", "email": "ada@example.com", "email_verified": True, "name": "Ada"}
    options = ["--port", str(port), "--require-nonce", "--user-claims", json.dumps(ada)]
    process = subprocess.Popen(  # noqa: ASYNC220 (it returns at once)
        [sys.executable, "-m", "oidc_provider_mock", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await _let_in(gateway.app.state.settings, f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(10)


async def _let_in(settings: GatewaySettings, issuer: str) -> None:
    changed = settings.model_copy(update={"oidc_issuer": issuer})
    async with (
        served(create_app(changed)) as url,
        httpx.AsyncClient(base_url=url, timeout=20) as http,
        httpx.AsyncClient(timeout=20) as at_provider,
    ):
        begun = await _begun(http)
        chosen = await at_provider.post(begun.headers["location"], data={"sub": "ada"})
        assert chosen.status_code == 302, chosen.text
        back = urlsplit(chosen.headers["location"])
        assert back.path == "/auth/oidc/callback"
        answer = await end(http, **dict(parse_qsl(back.query)))
        assert answer.status_code == 200, answer.text
        person = await me(http, answer.json())
        assert person["user"]["email"] == "ada@example.com"
        assert person["user"]["display_name"] == "Ada"


async def _begun(http: httpx.AsyncClient) -> httpx.Response:
    """Begin a sign-in, once the provider is up."""
    async with asyncio.timeout(30):
        while (answer := await http.get("/auth/oidc/login")).status_code == 503:
            await asyncio.sleep(0.1)
    assert answer.status_code == 307
    return answer
