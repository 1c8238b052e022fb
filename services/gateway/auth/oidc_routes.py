"""`/auth/oidc/*`: signing in by an OpenID provider."""

from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Depends, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from planes.shared.errors import PlatformError
from services.gateway.auth.assembly import Identity
from services.gateway.auth.dependencies import AddressLimit, ClientDep
from services.gateway.auth.errors import OidcNotConfigured
from services.gateway.auth.oidc import Callback, OidcSignIn
from services.gateway.auth.oidc_attempts import ATTEMPT_S
from services.gateway.auth.schemas import OidcCodeRequest, TokensOut
from services.gateway.auth.service import Client
from services.gateway.problems import problem_responses
from services.gateway.routing import PrefixRouter

router = PrefixRouter(prefix="/auth/oidc", tags=["Identity"])

_NO_STORE = {"cache-control": "no-store", "referrer-policy": "no-referrer"}
_limited = Depends(AddressLimit("oidc", 60, needs_redis=True))


async def _oidc(request: Request) -> OidcSignIn:
    identity: Identity = request.app.state.identity
    if identity.oidc is None:
        raise OidcNotConfigured
    return identity.oidc


OidcDep = Annotated[OidcSignIn, Depends(_oidc)]
_QueryText = Annotated[str | None, Query(max_length=4096)]


async def _callback(
    code: _QueryText = None,
    state: _QueryText = None,
    iss: _QueryText = None,
    error: _QueryText = None,
) -> Callback:
    return Callback(code, state, iss, error)


CallbackDep = Annotated[Callback, Depends(_callback)]


@router.get(
    "/login",
    status_code=307,
    summary="Sign in by the OpenID provider",
    response_class=RedirectResponse,
    responses=problem_responses(404),
    dependencies=[_limited],
)
async def begin_oidc(
    oidc: OidcDep,
    tenant_id: Annotated[UUID | None, Query(description="By default the tenant last used.")] = None,
) -> Response:
    """Send the browser to the provider. For browsers: a cookie binds the way back to this one.

    404 `oidc-not-configured` where the platform has no provider.
    """
    attempt = oidc.attempts.begin(tenant_id)
    url = await oidc.service.authorization_url(attempt)
    response = RedirectResponse(url, 307, _NO_STORE)
    response.set_cookie(
        _cookie(oidc),
        oidc.attempts.sealed(attempt),
        max_age=ATTEMPT_S,
        path="/",
        secure=oidc.service.is_https,
        httponly=True,
        samesite="lax",  # it must come along when the provider sends the browser back
    )
    return response


@router.get(
    "/callback",
    summary="Come back from the OpenID provider",
    response_model=TokensOut,
    responses={
        **problem_responses(400, 401, 403, 404, 409),
        303: {"description": "To the operator's page, with `#code=` for `POST /auth/oidc/token`"},
    },
    dependencies=[_limited],
)
async def end_oidc(
    request: Request, oidc: OidcDep, client: ClientDep, callback: CallbackDep
) -> Response:
    """Recognise who comes back, once; an account is made where the person is new.

    Answers tokens. Where the operator has a page for it, the browser is sent there instead with a
    code (or an `error`, the last part of a problem's type) in the fragment: never with tokens.
    """
    try:
        response = await _finish(request, oidc, client, callback)
    except PlatformError as error:
        if oidc.return_url is None:
            raise
        response = _return(oidc.return_url, error=error.code)
    response.delete_cookie(_cookie(oidc), path="/", secure=oidc.service.is_https, httponly=True)
    return response


@router.post(
    "/token",
    summary="End a sign-in by the OpenID provider",
    responses=problem_responses(400, 401, 404),
    dependencies=[_limited],
)
async def redeem_oidc_code(
    body: OidcCodeRequest, response: Response, oidc: OidcDep, client: ClientDep
) -> TokensOut:
    """Exchange the code of the fragment for tokens, once, within a minute."""
    response.headers["cache-control"] = "no-store"
    return TokensOut.of(await oidc.service.redeem(body.code.get_secret_value(), client))


async def _finish(
    request: Request, oidc: OidcSignIn, client: Client, callback: Callback
) -> Response:
    attempt = oidc.attempts.opened(request.cookies.get(_cookie(oidc)))
    found = await oidc.service.recognise(callback, attempt)
    if oidc.return_url is not None:
        return _return(oidc.return_url, code=await oidc.service.code(found, attempt.wanted))
    tokens = await oidc.service.enter(found, attempt.wanted, client)
    return JSONResponse(TokensOut.of(tokens).model_dump(), headers=_NO_STORE)


def _return(url: str, **fragment: str) -> Response:
    return RedirectResponse(f"{url}#{urlencode(fragment)}", 303, _NO_STORE)


def _cookie(oidc: OidcSignIn) -> str:
    return "__Host-polyplane-oidc" if oidc.service.is_https else "polyplane-oidc"
