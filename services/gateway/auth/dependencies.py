"""What routes ask for: who calls, with which role, and the services of this feature."""

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import OAuth2PasswordBearer
from fastapi.security.utils import get_authorization_scheme_param

from planes.shared.domain import Role
from planes.shared.errors import Forbidden, Unauthenticated
from services.gateway.auth.api_keys import ApiKeys
from services.gateway.auth.assembly import Identity
from services.gateway.auth.keys import SigningKeys
from services.gateway.auth.models import Account, ApiScope
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


def token_of(authorization: str | None) -> str | None:
    """Return the token that the field `Authorization` bears; None: none."""
    scheme, token = get_authorization_scheme_param(authorization)
    return token if scheme.lower() == "bearer" else None


@dataclass(frozen=True, slots=True)
class Permission:
    """A dependency that says who may call a route, and returns the caller, counted once.

    The one place where a route states its rights: documentation and tests read them from here.

    Attributes:
        role: The lowest role that may call.
        scope: What an API key needs; None keeps API keys out.
        any_key: Every API key may call, whatever its scopes.
        endpoint: The limit that the call counts against.
    """

    role: Role = Role.VIEWER
    scope: ApiScope | None = None
    any_key: bool = False
    endpoint: EndpointClass = EndpointClass.REQUESTS

    async def __call__(self, request: Request, token: BearerToken) -> Account:
        """Return who calls.

        Raises:
            Unauthenticated: There is no valid credential, or its session has ended.
            TooManyRequests: The user's limit is used up.
            Forbidden: The role or the key's scopes do not suffice.
        """
        scope = request.scope
        return await self.admit(request.app.state.identity, token, scope.setdefault("state", {}))

    async def admit(
        self, identity: Identity, token: str | None, state: MutableMapping[str, object]
    ) -> Account:
        """Return who calls with a token, and leave in a request's state how it was counted.

        Raises:
            PlatformError: As a call of the dependency.
        """
        if not token:
            raise Unauthenticated("Send an access token as `Authorization: Bearer <token>`.")
        account, rates = await identity.access.admit(token, self.endpoint)
        state[RATE_STATE] = rates
        rates.check()
        self._check(account)
        return account

    def _check(self, account: Account) -> None:
        if account.role.rank < self.role.rank:
            raise Forbidden(
                f"This needs the role {self.role} or a higher one; yours is {account.role}."
            )
        if account.scopes is None or self.any_key:
            return
        if self.scope is None:
            raise Forbidden("This is for people who are signed in, not for API keys.")
        if self.scope not in account.scopes:
            raise Forbidden(f"The API key lacks the scope {self.scope}.")


@dataclass(frozen=True, slots=True)
class AddressLimit:
    """A dependency that limits how often one address may call a route without credentials.

    Attributes:
        policy: The name in the headers; routes with the same one share the limit.
        per_minute: How many calls; the burst is a minute's worth.
        needs_redis: Answer 503 while Redis does not, instead of counting in the process.
    """

    policy: str
    per_minute: int
    needs_redis: bool = False

    async def __call__(self, request: Request) -> None:
        """Count one call.

        Raises:
            TooManyRequests: The address has called too often.
            Unavailable: The call must be counted, and Redis does not answer.
        """
        identity: Identity = request.app.state.identity
        addresses = identity.addresses
        take = addresses.take if self.needs_redis else addresses.take_or_count_here
        address = request.client.host if request.client else ""
        rates = await take(self.policy, address, self.per_minute)
        setattr(request.state, RATE_STATE, rates)
        rates.check()


SignedIn = Annotated[Account, Depends(Permission())]
AnyCaller = Annotated[Account, Depends(Permission(any_key=True))]
DocumentReader = Annotated[Account, Depends(Permission(scope=ApiScope.DOCUMENTS_READ))]
DocumentWriter = Annotated[
    Account, Depends(Permission(role=Role.MEMBER, scope=ApiScope.DOCUMENTS_WRITE))
]
Uploader = Annotated[
    Account,
    Depends(
        Permission(role=Role.MEMBER, scope=ApiScope.DOCUMENTS_WRITE, endpoint=EndpointClass.UPLOADS)
    ),
]
Searcher = Annotated[
    Account, Depends(Permission(scope=ApiScope.SEARCH, endpoint=EndpointClass.SEARCH))
]
MAY_ASK = Permission(scope=ApiScope.CHAT, endpoint=EndpointClass.CHAT)
Asker = Annotated[Account, Depends(MAY_ASK)]
ConversationUser = Annotated[Account, Depends(Permission(scope=ApiScope.CHAT))]
BillingReader = Annotated[Account, Depends(Permission(scope=ApiScope.BILLING_READ))]
InvoiceReader = Annotated[
    Account, Depends(Permission(role=Role.ADMIN, scope=ApiScope.BILLING_READ))
]
TenantReader = Annotated[Account, Depends(Permission(scope=ApiScope.TENANT_READ))]
FeedbackReader = Annotated[
    Account, Depends(Permission(role=Role.ADMIN, scope=ApiScope.TENANT_READ))
]
Remover = Annotated[Account, Depends(Permission(scope=ApiScope.TENANT_WRITE))]  # anybody may leave
TenantAdmin = Annotated[Account, Depends(Permission(role=Role.ADMIN, scope=ApiScope.TENANT_WRITE))]
TenantOwner = Annotated[Account, Depends(Permission(role=Role.OWNER))]


async def _auth(request: Request) -> AuthService:
    identity: Identity = request.app.state.identity
    return identity.auth


async def _sessions(request: Request) -> Sessions:
    identity: Identity = request.app.state.identity
    return identity.sessions


async def _api_keys(request: Request) -> ApiKeys:
    identity: Identity = request.app.state.identity
    return identity.api_keys


async def _signing_keys(request: Request) -> SigningKeys:
    identity: Identity = request.app.state.identity
    return identity.signing_keys


async def _client(request: Request) -> Client:
    address = request.client.host if request.client else ""
    return Client(address, request.headers.get("user-agent", ""))


AuthServiceDep = Annotated[AuthService, Depends(_auth)]
ApiKeysDep = Annotated[ApiKeys, Depends(_api_keys)]
SessionsDep = Annotated[Sessions, Depends(_sessions)]
SigningKeysDep = Annotated[SigningKeys, Depends(_signing_keys)]
ClientDep = Annotated[Client, Depends(_client)]
