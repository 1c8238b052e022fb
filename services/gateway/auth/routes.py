"""`/auth/*` and `/.well-known/jwks.json`."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Form, Query, Response
from fastapi.responses import JSONResponse

from services.gateway.auth.dependencies import (
    AddressLimit,
    AnyCaller,
    AuthServiceDep,
    ClientDep,
    SessionsDep,
    SignedIn,
    SigningKeysDep,
)
from services.gateway.auth.models import NewUser
from services.gateway.auth.schemas import (
    JsonWebKey,
    JsonWebKeySet,
    LoginRequest,
    LogoutRequest,
    MailSentOut,
    PasswordRequest,
    ProfileOut,
    RefreshRequest,
    RegisteredOut,
    RegisterRequest,
    SessionOut,
    TokenForm,
    TokensOut,
)
from services.gateway.pagination import Cursor, decode_id, encode_id
from services.gateway.problems import problem_responses
from services.gateway.routing import PrefixRouter
from services.gateway.schemas import Page

router = PrefixRouter(prefix="/auth", tags=["Identity"])
well_known = PrefixRouter(prefix="/.well-known", tags=["Identity"])


@router.post(
    "/register",
    status_code=201,
    summary="Register",
    response_model=RegisteredOut,
    responses={**problem_responses(409), 202: {"model": MailSentOut, "description": "Mail sent"}},
)
async def register(
    body: RegisterRequest, response: Response, client: ClientDep, auth: AuthServiceDep
) -> RegisteredOut | Response:
    """Create an account, with a tenant of its own on the free plan, and sign in.

    Where the platform verifies addresses the answer is 202, the same for every address: a mail is
    on its way with a token for `POST /auth/verify`, or to say that there is an account already.
    """
    _forbid_storing(response)
    new = NewUser(
        email=body.email,
        password=body.password.get_secret_value(),
        display_name=body.display_name,
        tenant_name=body.tenant_name,
    )
    registered = await auth.register(new, client)
    if registered is None:
        return mail_sent("If the address can be used, a mail is on its way.")
    return RegisteredOut.of_both(*registered)


@router.post("/login", summary="Sign in", responses=problem_responses(401, 404))
async def login(
    body: LoginRequest, response: Response, client: ClientDep, auth: AuthServiceDep
) -> TokensOut:
    """Open a session. From the tenth failure on there is a growing wait between attempts."""
    _forbid_storing(response)
    tokens = await auth.login(
        body.email, body.password.get_secret_value(), client, tenant_id=body.tenant_id
    )
    return TokensOut.of(tokens)


@router.post("/token", summary="Sign in (OAuth 2 form)", responses=problem_responses(401))
async def token(
    form: Annotated[TokenForm, Form()],
    response: Response,
    client: ClientDep,
    auth: AuthServiceDep,
) -> TokensOut:
    """As `/auth/login`, for clients of OAuth 2's password flow; enters the tenant last used."""
    _forbid_storing(response)
    return TokensOut.of(await auth.login(form.username, form.password.get_secret_value(), client))


@router.post(
    "/refresh",
    summary="Stay signed in",
    responses=problem_responses(401),
    dependencies=[Depends(AddressLimit("refresh", 1200))],
)
async def refresh(body: RefreshRequest, response: Response, sessions: SessionsDep) -> TokensOut:
    """Exchange a refresh token, once, for the next one and a new access token.

    A repeat within ten seconds, as after a lost answer, gives the same tokens again as long as the
    new one was not used. Any later repeat ends the session.
    """
    _forbid_storing(response)
    return TokensOut.of(await sessions.rotate(body.refresh_token.get_secret_value()))


@router.post("/logout", status_code=204, summary="Sign out", responses=problem_responses(401))
async def logout(
    account: SignedIn, sessions: SessionsDep, body: LogoutRequest | None = None
) -> None:
    """End this session: its refresh token and its access tokens stop working at once."""
    given = body.refresh_token if body else None
    await sessions.end(account, given.get_secret_value() if given else None)


@router.get("/me", summary="Who am I", responses=problem_responses(401))
async def me(account: AnyCaller, auth: AuthServiceDep) -> ProfileOut:
    """Return the user and the tenant of this session."""
    return ProfileOut.of(await auth.profile(account))


@router.get("/sessions", summary="List my sessions", responses=problem_responses(401))
async def list_sessions(
    account: SignedIn,
    sessions: SessionsDep,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page[SessionOut]:
    """Return where the user is signed in, newest first."""
    found = await sessions.alive(account, before=decode_id(cursor), limit=limit + 1)
    items = [SessionOut.of(session, account.session_id) for session in found[:limit]]
    return Page(items=items, next_cursor=encode_id(items[-1].id) if len(found) > limit else None)


@router.delete(
    "/sessions/{session_id}",
    status_code=204,
    summary="End one of my sessions",
    responses=problem_responses(401, 404),
)
async def end_session(session_id: UUID, account: SignedIn, sessions: SessionsDep) -> None:
    """Sign out somewhere else: that session's tokens stop working at once."""
    await sessions.end_one(account, session_id)


@router.post(
    "/password",
    status_code=204,
    summary="Change my password",
    responses=problem_responses(401, 403),
)
async def change_password(
    body: PasswordRequest, account: SignedIn, client: ClientDep, auth: AuthServiceDep
) -> None:
    """Replace the password.

    Ends every other session. This one goes on with its refresh token: its access token is void too.
    """
    await auth.change_password(
        account,
        current=body.current_password.get_secret_value(),
        new=body.new_password.get_secret_value(),
        client=client,
    )


@well_known.get("/jwks.json", summary="Public keys")
async def jwks(response: Response, keys: SigningKeysDep) -> JsonWebKeySet:
    """Return the keys that verify access tokens; a new one stands here a minute before it signs."""
    response.headers["cache-control"] = "public, max-age=30"
    return JsonWebKeySet(keys=[JsonWebKey.model_validate(key) for key in keys.jwks()["keys"]])


def _forbid_storing(response: Response) -> None:
    response.headers["cache-control"] = "no-store"


def mail_sent(detail: str) -> Response:
    """Return the answer to what is done by mail."""
    body = MailSentOut(detail=detail).model_dump()
    return JSONResponse(body, 202, {"cache-control": "no-store"})
