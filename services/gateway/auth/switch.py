"""`POST /auth/switch`."""

from fastapi import Response

from services.gateway.auth.account_schemas import SwitchRequest
from services.gateway.auth.dependencies import AuthServiceDep, ClientDep, SignedIn
from services.gateway.auth.schemas import TokensOut
from services.gateway.problems import problem_responses
from services.gateway.routing import PrefixRouter

router = PrefixRouter(prefix="/auth", tags=["Identity"])


@router.post("/switch", summary="Act in another tenant", responses=problem_responses(401, 404))
async def post_switch(
    body: SwitchRequest,
    response: Response,
    account: SignedIn,
    client: ClientDep,
    auth: AuthServiceDep,
) -> TokensOut:
    """Open a session in another tenant that the caller belongs to; this session goes on too."""
    response.headers["cache-control"] = "no-store"
    user_id, version = account.context.user_id, account.version.user
    return TokensOut.of(await auth.enter(user_id, body.tenant_id, client, version=version))
