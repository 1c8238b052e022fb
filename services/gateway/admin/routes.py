"""`/health` for everybody, and the admin port with details and `/metrics`."""

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.gateway.admin.health import Health, HealthService
from services.gateway.admin.metrics import GatewayMetrics
from services.gateway.routing import PrefixRouter

router = PrefixRouter(prefix="/health", tags=["Health"])


async def _health(request: Request) -> HealthService:
    service: HealthService = request.app.state.health
    return service


HealthServiceDep = Annotated[HealthService, Depends(_health)]
_UNAVAILABLE: dict[int | str, dict[str, Any]] = {
    503: {"model": Health, "description": "The database does not answer, or this process stops"}
}
_RETRY_AFTER_S = "2"


@router.get("", summary="State of every part", response_model_exclude_none=True)
async def get_health(health: HealthServiceDep) -> Health:
    """Always 200: the state is in the body."""
    return await health.public()


@router.get("/live", summary="Is the gateway alive?", response_model_exclude_none=True)
async def get_live(health: HealthServiceDep) -> Health:
    """Answer whenever this process runs."""
    return health.live()


@router.get(
    "/ready",
    summary="Is the platform ready?",
    responses=_UNAVAILABLE,
    response_model_exclude_none=True,
)
async def get_ready(health: HealthServiceDep, response: Response) -> Health:
    """503 where requests cannot be served; `degraded` names the parts that are away."""
    answer = await health.public()
    _refuse_where_unavailable(answer, response)
    return answer


def _refuse_where_unavailable(health: Health, response: Response) -> None:
    if health.status == "unavailable":
        response.status_code = 503
        response.headers["retry-after"] = _RETRY_AFTER_S


def create_admin_app(gateway: FastAPI) -> FastAPI:
    """Return the application of the admin port, which only operators may reach."""
    app = FastAPI(title="Polyplane gateway, admin port", openapi_url=None)

    def service() -> HealthService:
        health: HealthService = gateway.state.health
        return health

    @app.get("/health")
    async def get_details() -> Health:
        return await service().health()

    @app.get("/health/ready")
    async def get_readiness(response: Response) -> Health:
        answer = await service().health()
        _refuse_where_unavailable(answer, response)
        return answer

    @app.get("/health/live")
    async def get_life() -> Health:
        return service().live()

    @app.get("/metrics")
    async def get_metrics() -> Response:
        metrics: GatewayMetrics = gateway.state.metrics
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app
