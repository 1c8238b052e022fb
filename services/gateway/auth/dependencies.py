"""What routes ask for: who calls, with which role, and the services of this feature."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import OAuth2PasswordBearer

from planes.shared.domain import Role
from planes.shared.errors import Forbidden, Unauthenticated
from services.gateway.auth.assembly import Identity
from services.gateway.auth.keys import SigningKeys
from services.gateway.auth.models import Account
from services.gateway.auth.service import AuthService, Client
from services.gateway.auth.sessions import Sessions
from services.gateway.limits.headers import RATE_STATE
from services.gateway.limits.rates import EndpointClass

_bearer = OAuth2PasswordBearer(
    "/auth/token",
    scheme_name="bearer",
    description="An access token, from any of the sign-ins.",
    auto_error=False,
)

BearerToken = Annotated[str | None, Depends(_bearer)]


async def _admit(request: Request, token: str | None, endpoint: EndpointClass) -> Account:
    if not token:
        raise Unauthenticated("Send an access token as `Authorization: Bearer <token>`.")
    identity: Identity = request.app.state.identity
    account, rate = await identity.access.admit(token, endpoint)
    setattr(request.state, RATE_STATE, rate)
    rate.check()
    return account


async def authenticate(request: Request, token: BearerToken) -> Account:
    """Return who calls, counted as one request.

    Raises:
        Unauthenticated: There is no valid token, or its session has ended.
        TooManyRequests: The user's limit is used up.
    """
    return await _admit(request, token, EndpointClass.REQUESTS)


async def authenticate_chat(request: Request, token: BearerToken) -> Account:
    """As `authenticate`, counted as one question instead."""
    return await _admit(request, token, EndpointClass.CHAT)


CurrentAccount = Annotated[Account, Depends(authenticate)]
ChatAccount = Annotated[Account, Depends(authenticate_chat)]


def require(role: Role) -> Callable[[Account], Awaitable[Account]]:
    """Return a dependency that admits callers with `role` or a higher one."""

    async def check(account: CurrentAccount) -> Account:
        if account.role.rank < role.rank:
            raise Forbidden(f"This needs the role {role} or a higher one; yours is {account.role}.")
        return account

    return check


AdminAccount = Annotated[Account, Depends(require(Role.ADMIN))]


async def _auth(request: Request) -> AuthService:
    identity: Identity = request.app.state.identity
    return identity.auth


async def _sessions(request: Request) -> Sessions:
    identity: Identity = request.app.state.identity
    return identity.sessions


async def _signing_keys(request: Request) -> SigningKeys:
    identity: Identity = request.app.state.identity
    return identity.signing_keys


async def _client(request: Request) -> Client:
    address = request.client.host if request.client else ""
    return Client(address, request.headers.get("user-agent", ""))


AuthServiceDep = Annotated[AuthService, Depends(_auth)]
SessionsDep = Annotated[Sessions, Depends(_sessions)]
SigningKeysDep = Annotated[SigningKeys, Depends(_signing_keys)]
ClientDep = Annotated[Client, Depends(_client)]
