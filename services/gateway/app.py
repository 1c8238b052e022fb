"""The gateway: wiring only."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import Any, TypeAlias, cast

import structlog
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute
from redis.asyncio import Redis
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from planes.shared.clients.dagster import DagsterClient
from planes.shared.clients.serving import Deadlines, ServingClient
from planes.shared.deadlines import answer_within
from planes.shared.domain import new_id
from planes.shared.errors import Unavailable
from planes.shared.ports import ChatLog, ObjectStore
from planes.shared.stores.chat_log_settings import open_chat_log
from planes.shared.stores.object_settings import object_store
from planes.shared.stores.postgres import SCHEMA_REVISION, Database
from planes.shared.stores.postgres_replica import ListReads
from planes.shared.stores.redis_clients import REDIS_ERRORS, redis_client
from planes.shared.stores.redis_memory import RedisUnfit, require_no_eviction
from planes.shared.telemetry import new_trace_id
from planes.shared.wire import ServingTokens
from services.gateway import problems
from services.gateway.admin.drain import Drain, DrainMiddleware
from services.gateway.admin.health import HealthService, Probe, ServingMonitor
from services.gateway.admin.metrics import GatewayMetrics
from services.gateway.admin.routes import router as health_router
from services.gateway.application import GatewayApplication
from services.gateway.auth.account import AccountDeletion
from services.gateway.auth.account_export import AccountExport
from services.gateway.auth.account_routes import router as account_router
from services.gateway.auth.api_key_routes import router as api_key_router
from services.gateway.auth.assembly import Identity, IdentityOptions, assemble
from services.gateway.auth.oidc_routes import router as oidc_router
from services.gateway.auth.options import mail_options, oidc_options
from services.gateway.auth.recovery_routes import router as recovery_router
from services.gateway.auth.routes import router as auth_router
from services.gateway.auth.routes import well_known as well_known_router
from services.gateway.auth.switch import router as switch_router
from services.gateway.billing.assembly import assemble as assemble_billing
from services.gateway.billing.prices import Prices
from services.gateway.billing.routes import router as billing_router
from services.gateway.body_limit import BodyLimitMiddleware, BodyLimits
from services.gateway.chat.bare_route import BareChatRoute
from services.gateway.chat.conversations import ConversationService
from services.gateway.chat.guard import StreamGuard
from services.gateway.chat.history import ChatHistory
from services.gateway.chat.routes import post_chat
from services.gateway.chat.routes import router as chat_router
from services.gateway.chat.service import ChatLimits, ChatParts, ChatService
from services.gateway.chat.stops import StopChannel
from services.gateway.chat.stream_buffer import StreamBuffer
from services.gateway.chat.stream_routes import router as streams_router
from services.gateway.chat.streams import StreamOptions, StreamService, StreamStores
from services.gateway.docs_pages import install as install_docs_pages
from services.gateway.documents.fetching import UrlFetcher
from services.gateway.documents.ingestion import IngestionRequests
from services.gateway.documents.receiving import Receiver
from services.gateway.documents.registration import Registrar
from services.gateway.documents.routes import router as documents_router
from services.gateway.documents.search import SearchService
from services.gateway.documents.service import DocumentService
from services.gateway.documents.upload_routes import router as uploads_router
from services.gateway.documents.uploads import FileLimits, Uploads
from services.gateway.documents.versions import Versions
from services.gateway.feedback.routes import router as feedback_router
from services.gateway.feedback.service import FeedbackService
from services.gateway.http_rules import HttpRulesMiddleware
from services.gateway.idempotency.dependencies import install as install_replays
from services.gateway.idempotency.service import IdempotencyService
from services.gateway.jobs.routes import router as jobs_router
from services.gateway.jobs.service import JobService, JobStores
from services.gateway.jobs.watching import LOOK_S, JobWatch
from services.gateway.limits.feed import RevocationFeed
from services.gateway.limits.headers import RateHeadersMiddleware
from services.gateway.maintenance import ChatLogDrain, every, expire_unlisted, sweep_reservation
from services.gateway.openai.embeddings import EmbeddingService
from services.gateway.openai.errors import OpenAIErrorsMiddleware
from services.gateway.openai.routes import router as openai_router
from services.gateway.openai.service import OpenAIApi
from services.gateway.openapi import DESCRIPTION, TAGS, describe, operation_id
from services.gateway.outbound import outbound_client
from services.gateway.plain_deadline import PlainDeadlineMiddleware
from services.gateway.routing import PrefixRouter
from services.gateway.settings import GatewaySettings
from services.gateway.tenants.assembly import assemble as assemble_tenants
from services.gateway.tenants.invitation_routes import router as invitation_router
from services.gateway.tenants.member_routes import router as member_router
from services.gateway.tenants.removal import TenantStores
from services.gateway.tenants.routes import router as tenant_router
from services.gateway.tracing import RequestLog, TracingMiddleware
from services.gateway.webhooks.delivery import WebhookSender
from services.gateway.webhooks.routes import router as webhooks_router
from services.gateway.webhooks.service import WebhookService
from services.gateway.webhooks.signing import SecretSeal

_REDIS_S = 2.0
_VERSIONED = "/api/v1"
_log = structlog.get_logger(__name__)

Maintenance: TypeAlias = Coroutine[None, None, None]


@dataclass(frozen=True, slots=True)
class _Parts:
    """What several features share; opened and closed with the application."""

    settings: GatewaySettings
    metrics: GatewayMetrics
    database: Database
    lists: ListReads
    redis: Redis
    objects: ObjectStore
    chat_log: ChatLog
    serving: ServingClient
    dagster: DagsterClient


def create_app(settings: GatewaySettings) -> FastAPI:
    """Return the gateway; its lifespan opens and closes everything."""
    metrics = GatewayMetrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            parts = await _open(stack, settings, metrics)
            _provide_identity(app, parts, stack)
            maintenance = _provide_documents(app, parts, stack)
            maintenance += await _provide_chat(app, parts, stack)
            maintenance += _provide_tenants(app, parts)
            maintenance += _provide_jobs(app, parts)
            maintenance += _provide_webhooks(app, parts, stack)
            for coroutine in maintenance:
                task = asyncio.create_task(coroutine)
                stack.callback(task.cancel)
            yield

    app = GatewayApplication(
        docs_url=None,  # install_docs_pages has them
        redoc_url=None,
        title="Polyplane",
        version=version("polyplane"),
        description=DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_tags=TAGS,
        generate_unique_id_function=operation_id,
    )
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.drain = Drain()
    problems.install(app)
    install_replays(app)
    _add_middleware(app, settings, RequestLog(metrics))
    _add_routes(app)
    install_docs_pages(app)
    describe(app)
    return app


async def _open(
    stack: AsyncExitStack, settings: GatewaySettings, metrics: GatewayMetrics
) -> _Parts:
    database = Database(
        settings.database_url.get_secret_value(),
        service="gateway",
        max_connections=settings.database_connections,
        deadline_s=settings.database_deadline_s,
    )
    await database.open()
    stack.push_async_callback(database.close)
    await database.check_schema(SCHEMA_REVISION)
    lists = _lists(settings, database)
    stack.push_async_callback(lists.close)
    redis = redis_client(settings.redis_url.get_secret_value(), settings.redis_login)
    stack.push_async_callback(redis.aclose)
    await _check_redis(redis)
    deadlines = Deadlines(
        headers_s=settings.answer_header_s,
        first_token_s=settings.answer_first_token_s,
        idle_s=settings.answer_idle_s,
    )
    tokens = ServingTokens(settings.serving_token_secret.get_secret_value())
    serving = ServingClient(settings.serving_url, tokens, deadlines)
    serving.open()
    stack.push_async_callback(serving.close)
    dagster = DagsterClient(settings.dagster_url)
    dagster.open()
    stack.push_async_callback(dagster.close)
    objects = object_store(settings)
    chat_log = await stack.enter_async_context(open_chat_log(settings, database))
    return _Parts(settings, metrics, database, lists, redis, objects, chat_log, serving, dagster)


def _lists(settings: GatewaySettings, database: Database) -> ListReads:
    """Return where lists are read; a replica is connected when it is first looked at."""
    url, replica = settings.database_replica_url, None
    if url is not None:
        replica = Database(
            url.get_secret_value(),
            service="gateway",
            max_connections=settings.database_connections,
            deadline_s=settings.database_deadline_s / 2,  # the rest is the primary's
        )
    return ListReads(database, replica, max_lag_s=settings.database_replica_max_lag_s)


async def _check_redis(redis: Redis) -> None:
    """Refuse one that drops keys; without one that answers a gateway starts all the same.

    Raises:
        RedisUnfit: It says what to set.
    """
    try:
        async with answer_within(_REDIS_S):
            await require_no_eviction(redis)
    except REDIS_ERRORS as error:
        _log.warning("redis does not answer: its eviction is not checked", error=str(error))


def _provide_identity(app: FastAPI, parts: _Parts, stack: AsyncExitStack) -> None:
    options = IdentityOptions(
        keys_dir=parts.settings.keys_dir,
        key_publish_s=parts.settings.key_publish_s,
        mail=mail_options(parts.settings),
        oidc=oidc_options(parts.settings),
        refresh_secret=parts.settings.refresh_secret.get_secret_value(),
        registrations_per_minute=parts.settings.registrations_per_minute,
    )
    identity = assemble(parts.database, parts.redis, options)
    identity.open()
    stack.callback(identity.close)
    stack.push_async_callback(identity.finish)
    app.state.identity = identity


def _provide_documents(app: FastAPI, parts: _Parts, stack: AsyncExitStack) -> list[Maintenance]:
    ingestion = IngestionRequests(parts.dagster)
    settings, database, objects = parts.settings, parts.database, parts.objects
    limits = FileLimits(settings.max_file_bytes, settings.max_batch_bytes, settings.max_batch_files)
    uploads = Uploads(database, objects, limits)
    registrar = Registrar(database, objects, ingestion)
    versions = Versions(database, registrar, ingestion)
    web = outbound_client(settings.outbound_networks)
    stack.push_async_callback(web.aclose)
    fetcher = UrlFetcher(web, max_bytes=limits.file_bytes, is_enabled=settings.url_uploads)
    app.state.ingestion = ingestion
    app.state.uploads = uploads
    app.state.versions = versions
    app.state.receiver = Receiver(uploads, objects, registrar, versions, fetcher)
    app.state.documents = DocumentService(database, objects, ingestion, parts.lists)
    app.state.search = SearchService(parts.database, parts.serving, parts.metrics)
    return [ingestion.run(), every(20, "expired uploads", uploads.sweep)]


async def _provide_chat(app: FastAPI, parts: _Parts, stack: AsyncExitStack) -> list[Maintenance]:
    settings, database = parts.settings, parts.database
    history = ChatHistory(database, parts.chat_log)
    prices = Prices(database)
    await prices.refresh()
    monitor = ServingMonitor(parts.serving)
    identity: Identity = app.state.identity
    guard = StreamGuard(RevocationFeed(parts.redis), identity.standings)
    app.state.guard = guard
    buffer = StreamBuffer(parts.redis)
    chat = ChatService(
        ChatParts(database, parts.serving, monitor, history, prices, parts.metrics, guard, buffer),
        ChatLimits(
            settings.max_prompt_tokens,
            settings.default_max_tokens,
            settings.history_messages,
            settings.max_answers,
            settings.chat_resume_grace_s,
        ),
    )
    stack.push_async_callback(chat.close)
    app.state.chat = chat
    conversations = ConversationService(database, history, parts.lists)
    app.state.conversations = conversations
    streams = StreamService(
        StreamStores(database, buffer, StopChannel(parts.redis), conversations),
        chat,
        guard,
        StreamOptions(
            settings.chat_resume_grace_s, settings.stream_heartbeat_s, settings.max_answers
        ),
    )
    app.state.streams = streams
    app.state.feedback = FeedbackService(database, history)
    app.state.embeddings = EmbeddingService(database, parts.serving, monitor, parts.metrics)
    app.state.openai = OpenAIApi(chat, conversations, monitor)
    app.state.idempotency = IdempotencyService(database)
    billing = assemble_billing(database, identity.gate, settings)
    stack.push_async_callback(billing.provider.close)
    app.state.payments = billing
    app.state.billing = billing.usage
    app.state.health = HealthService(_probes(parts), monitor, app.version, app.state.drain)
    drain = ChatLogDrain(database, parts.chat_log)

    async def expire() -> None:
        await expire_unlisted(database, timedelta(days=settings.unlisted_days))

    async def sweep() -> None:
        while await sweep_reservation(database):
            parts.metrics.swept.inc()

    return [
        every(60, "prices", prices.refresh),
        every(3600, "subscriptions", billing.plan_changes.charge),
        every(600, "idempotency keys", app.state.idempotency.forget_expired),
        every(5, "reservations", sweep),
        every(600, "questions of programs", expire),
        every(5, "reservations of embeddings", app.state.embeddings.sweep),
        every(0.5, "chat log", drain.drain),
        every(60, "recent turns", history.forget_expired),
        every(0.5, "revocations", identity.gate.send_unsent),
        every(1, "revocations heard", guard.listen),
        every(1, "open answers", guard.look),
        every(1, "stopped answers", streams.listen),
        every(5, "deleted conversations", drain.purge),
        every(3, "serving plane", monitor.look),
        every(3600, "refresh tokens", app.state.identity.sessions.forget_expired),
        every(3600, "one-time tokens", identity.recovery.forget_expired),
        *([every(0.5, "replica", parts.lists.look)] if parts.lists.has_replica else []),
        *([every(1, "mail", identity.mail.drain)] if identity.mail is not None else []),
    ]


def _provide_tenants(app: FastAPI, parts: _Parts) -> list[Maintenance]:
    identity: Identity = app.state.identity
    ingestion: IngestionRequests = app.state.ingestion
    feature = assemble_tenants(
        TenantStores(parts.database, parts.chat_log, parts.objects, parts.redis),
        identity.sessions,
        lambda: ingestion.request(new_trace_id()),
        invites_by_mail=identity.mail is not None,
    )
    app.state.tenants = feature
    app.state.account_deletion = AccountDeletion(
        parts.database, identity.auth, identity.sessions, new_id
    )
    app.state.account_export = AccountExport(parts.database, app.state.conversations, new_id)
    return [every(3, "deleted tenants", feature.removal.work)]


def _provide_jobs(app: FastAPI, parts: _Parts) -> list[Maintenance]:
    stores = JobStores(parts.database, parts.objects, app.state.uploads)
    watch = JobWatch(
        parts.database,
        app.state.guard,
        max_streams=parts.settings.max_job_streams,
        is_draining=lambda: app.state.drain.is_on,
    )
    app.state.jobs = JobService(stores, app.state.ingestion)
    app.state.job_watch = watch
    return [
        every(LOOK_S, "followed jobs", watch.look),
        every(10, "cancelled jobs", app.state.jobs.finish_cancelling),
    ]


def _provide_webhooks(app: FastAPI, parts: _Parts, stack: AsyncExitStack) -> list[Maintenance]:
    networks = parts.settings.outbound_networks
    client = outbound_client(networks)
    stack.push_async_callback(client.aclose)
    seal = SecretSeal(parts.settings.refresh_secret.get_secret_value())
    sender = WebhookSender(parts.database, client, seal)
    stack.push_async_callback(sender.close)
    app.state.webhooks = WebhookService(parts.database, seal, networks)
    return [
        every(1, "webhooks", sender.drain),
        every(600, "webhook deliveries", sender.prune),
    ]


def _probes(parts: _Parts) -> dict[str, Probe]:
    async def database() -> None:
        async with parts.database.platform() as connection:
            await connection.fetchval("SELECT 1")

    async def redis() -> None:
        try:
            await require_no_eviction(parts.redis)
        except REDIS_ERRORS as error:
            raise Unavailable("Redis does not answer.") from error
        except RedisUnfit as error:
            raise Unavailable(str(error)) from error

    async def dagster() -> None:
        if not await parts.dagster.is_alive():
            raise Unavailable("Dagster does not answer.")

    return {
        "database": database,
        "redis": redis,
        "data": dagster,
        "objects": parts.objects.check,
        "chat_log": parts.chat_log.check,
    }


def _add_middleware(app: GatewayApplication, settings: GatewaySettings, log: RequestLog) -> None:
    """Add the layers, the innermost first, and what stands in front of them."""
    app.add_middleware(
        BodyLimitMiddleware,
        limits=BodyLimits(
            body_bytes=settings.max_body_bytes,
            file_bytes=settings.max_file_bytes,
            batch_bytes=settings.max_batch_bytes,
            batch_files=settings.max_batch_files,
        ),
        idle_s=settings.body_idle_s,
    )
    app.add_middleware(PlainDeadlineMiddleware, seconds=2 * settings.database_deadline_s)
    app.add_middleware(RateHeadersMiddleware)
    app.add_middleware(DrainMiddleware, drain=app.state.drain)
    app.add_middleware(HttpRulesMiddleware)
    app.add_middleware(TracingMiddleware, log=log, unexpected=problems.unexpected_response)
    app.add_middleware(OpenAIErrorsMiddleware)
    front: ASGIApp = BareChatRoute(app, app.layers, declared=_chat_routes(), log=log)
    if settings.cors_origins:  # outermost, so that browsers can read unexpected errors too
        front = CORSMiddleware(
            front,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["authorization", "content-type", "idempotency-key", "last-event-id"],
            expose_headers=[
                "x-request-id",
                "retry-after",
                "ratelimit",
                "ratelimit-policy",
                "idempotency-replayed",
                "x-resumable",
            ],
        )
    if settings.trusted_proxies:
        networks = [str(network) for network in settings.trusted_proxies]
        front = cast("ASGIApp", ProxyHeadersMiddleware(cast("Any", front), trusted_hosts=networks))
    app.front = front


def _chat_routes() -> dict[str, APIRoute]:
    """Return the routes that `BareChatRoute` serves, by path."""
    found: dict[str, APIRoute] = {}
    for route in chat_router.routes:
        if isinstance(route, APIRoute) and route.endpoint is post_chat:
            found |= {route.path: route, _VERSIONED + route.path: route}
    return found


def _add_routes(app: FastAPI) -> None:
    """Add every route, and all but the platform-wide ones under `/api/v1` too."""
    routers = (
        auth_router,
        recovery_router,
        oidc_router,
        switch_router,
        account_router,
        api_key_router,
        tenant_router,
        member_router,
        invitation_router,
        uploads_router,
        documents_router,
        jobs_router,
        webhooks_router,
        chat_router,
        feedback_router,
        streams_router,
        billing_router,
    )
    for router in routers:
        app.include_router(router)
    app.include_router(well_known_router)
    app.include_router(health_router)
    app.include_router(openai_router)
    versioned = PrefixRouter(prefix=_VERSIONED, include_in_schema=False)
    for router in routers:
        versioned.include_router(router)
    app.include_router(versioned)
