"""`/auth/verify` and `/auth/password/*`: what people prove by mail."""

from typing import Annotated

from fastapi import Depends, Request, Response

from services.gateway.auth.assembly import Identity
from services.gateway.auth.dependencies import AddressLimit
from services.gateway.auth.recovery import RecoveryService
from services.gateway.auth.routes import mail_sent
from services.gateway.auth.schemas import (
    ForgotPasswordRequest,
    MailSentOut,
    ResetPasswordRequest,
    VerifyRequest,
)
from services.gateway.problems import problem_responses
from services.gateway.routing import PrefixRouter

router = PrefixRouter(prefix="/auth", tags=["Identity"])

_limited = Depends(AddressLimit("recovery", 30, needs_redis=True))


async def _recovery(request: Request) -> RecoveryService:
    identity: Identity = request.app.state.identity
    return identity.recovery


RecoveryServiceDep = Annotated[RecoveryService, Depends(_recovery)]


@router.post(
    "/password/forgot",
    status_code=202,
    summary="Forgot my password",
    response_model=MailSentOut,
    responses=problem_responses(),
    dependencies=[_limited],
)
async def forgot_password(body: ForgotPasswordRequest, recovery: RecoveryServiceDep) -> Response:
    """Send a mail with a token for `POST /auth/password/reset`, good once within 30 minutes.

    The answer is the same whether or not the address has an account. Where the platform sends no
    mail it is 503 `mail-not-configured`.
    """
    await recovery.forgot_password(body.email)
    return mail_sent("If the address has an account, a mail is on its way.")


@router.post(
    "/password/reset",
    status_code=204,
    summary="Choose a new password",
    responses=problem_responses(400),
    dependencies=[_limited],
)
async def reset_password(body: ResetPasswordRequest, recovery: RecoveryServiceDep) -> None:
    """Replace the password by the token of a mail; ends every session, access token and API key."""
    await recovery.reset_password(
        body.token.get_secret_value(), body.new_password.get_secret_value()
    )


@router.post(
    "/verify",
    status_code=204,
    summary="Confirm my e-mail address",
    responses=problem_responses(400),
    dependencies=[_limited],
)
async def verify(body: VerifyRequest, recovery: RecoveryServiceDep) -> None:
    """Confirm by the token of a mail that the address is the account's; good once, for 24 hours."""
    await recovery.verify(body.token.get_secret_value())
