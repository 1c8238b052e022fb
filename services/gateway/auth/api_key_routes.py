"""`/auth/api-keys`."""

from uuid import UUID

from fastapi import Response

from services.gateway.auth.api_key_schemas import ApiKeyOut, ApiKeyRequest, NewApiKeyOut
from services.gateway.auth.dependencies import ApiKeysDep, SignedIn
from services.gateway.pagination import Cursor, Limit, decode_id, encode_id
from services.gateway.problems import problem_responses
from services.gateway.routing import PrefixRouter
from services.gateway.schemas import Page

router = PrefixRouter(prefix="/auth/api-keys", tags=["Identity"])


@router.post(
    "", status_code=201, summary="Make an API key", responses=problem_responses(401, 403, 409)
)
async def post_api_key(
    body: ApiKeyRequest, response: Response, account: SignedIn, keys: ApiKeysDep
) -> NewApiKeyOut:
    """Make a key for a program: it acts as you, in this tenant, within its scopes.

    It is used in place of an access token, and shown this once. It follows your role; disabling you
    or removing you from the tenant ends it, a new password does not.
    """
    response.headers["cache-control"] = "no-store"
    made, key = await keys.make(
        account, name=body.name, scopes=body.scopes, expires_at=body.expires_at
    )
    return NewApiKeyOut(**ApiKeyOut.of(made).model_dump(), key=key)


@router.get("", summary="List my API keys", responses=problem_responses(401, 403))
async def get_api_keys(
    account: SignedIn, keys: ApiKeysDep, limit: Limit = 50, cursor: Cursor = None
) -> Page[ApiKeyOut]:
    """List your keys in this tenant that you have not ended, newest first."""
    found = await keys.page(account, before=decode_id(cursor), limit=limit + 1)
    following = encode_id(found[limit - 1].id) if len(found) > limit else None
    return Page(items=[ApiKeyOut.of(key) for key in found[:limit]], next_cursor=following)


@router.delete(
    "/{key_id}",
    status_code=204,
    summary="End an API key",
    responses=problem_responses(401, 403, 404),
)
async def delete_api_key(key_id: UUID, account: SignedIn, keys: ApiKeysDep) -> None:
    """End a key: it stops working at once, answers that it has under way included."""
    await keys.end(account, key_id)
