"""Plans, usage, charges and invoices, by HTTP over a real PostgreSQL and Redis."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import asyncpg
import httpx
import pypdfium2
import pytest
from click.testing import Result
from typer.testing import CliRunner

from planes.shared.domain import new_id
from planes.shared.errors import NotFound
from planes.shared.stores.postgres import Database
from planes.shared.stores.redis_address import RedisSettings
from services.cli import admin_plans
from services.cli.admin import app as admin_commands
from services.gateway.billing.assembly import Billing
from services.gateway.billing.plan_repository import PlanChange
from tests.integration.gateway.conftest import Gateway, Person, until
from tests.integration.gateway.plane import FakePlane

NOW = datetime.now(UTC)
MONTH = date(NOW.year, NOW.month, 1)
LAST_MONTH = (MONTH - timedelta(days=1)).replace(day=1)


@pytest.fixture
async def admin(database_urls: dict[str, str]) -> AsyncIterator[Database]:
    database = Database(database_urls["admin"], service="test-admin")
    await database.open()
    yield database
    await database.close()


async def execute(admin: Database, statement: str, *values: object) -> None:
    async with admin.platform() as connection:
        await connection.execute(statement, *values)


async def fetch(admin: Database, query: str, *values: object) -> list[asyncpg.Record]:
    async with admin.platform() as connection:
        return await connection.fetch(query, *values)


async def set_plan(gateway: Gateway, person: Person, plan: str) -> None:
    billing: Billing = gateway.app.state.payments
    await billing.plan_changes.change(PlanChange(UUID(person.tenant_id), plan, "operator"))


async def ask(person: Person) -> httpx.Response:
    return await person.http.post("/chat", json={"message": "How long is the warranty?"})


async def bill(admin: Database, person: Person, at: datetime, **entry: object) -> None:
    """Write an answer into the ledger, as settlement does."""
    values = {"model": "m", "prompt_tokens": 1, "completion_tokens": 2, "cost_usd": Decimal(1)}
    values |= entry
    await execute(
        admin,
        "INSERT INTO ledger (id, tenant_id, user_id, request_id, kind, period, model, mode, "
        "prompt_tokens, completion_tokens, cost_usd, created_at) VALUES "
        "($1, $2, $3, $4, 'answer', date_trunc('month', $5::timestamptz AT TIME ZONE 'UTC'), $6, "
        "'rag', $7, $8, $9, $5)",
        new_id(),
        UUID(person.tenant_id),
        UUID(person.user_id),
        new_id(),
        at,
        *(values[name] for name in ("model", "prompt_tokens", "completion_tokens", "cost_usd")),
    )


async def invoices(person: Person) -> list[dict[str, object]]:
    listed = (await person.http.get("/billing/invoices")).json()["items"]
    return [(await person.http.get(f"/billing/invoices/{each['id']}")).json() for each in listed]


async def test_plans_show_limits_features_and_prices(person: Person) -> None:
    answer = (await person.http.get("/billing/plans")).json()
    assert answer["current"] == "free"
    assert [plan["name"] for plan in answer["items"]] == ["free", "pro", "enterprise"]
    free, pro, _ = answer["items"]
    assert {"open-chat", "api-keys", "export"} <= set(free["features"])
    assert pro["monthly_price_usd"] == "29.0000000000"
    assert pro["included_usage_usd"] is None
    assert pro["upload_requests_per_minute"] > free["upload_requests_per_minute"]
    assert pro["search_requests_per_minute"] > free["search_requests_per_minute"]


async def test_quotas_hold_while_the_plan_flips(
    gateway: Gateway, person: Person, admin: Database
) -> None:
    await execute(admin, "UPDATE plans SET messages_per_month = 10 WHERE name = 'free'")
    await execute(admin, "UPDATE plans SET messages_per_month = 25 WHERE name = 'pro'")
    done = asyncio.Event()

    async def flip() -> None:
        while not done.is_set():
            for plan in ("pro", "free"):
                await set_plan(gateway, person, plan)

    flipping = asyncio.create_task(flip())
    answers = await asyncio.gather(*(ask(person) for _ in range(60)))
    done.set()
    await flipping
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) <= {200, 402}
    assert 10 <= statuses[200] <= 25
    usage = (await person.http.get("/billing/usage")).json()
    assert usage["totals"]["messages"] == statuses[200] == usage["quotas"]["messages"]["used"]
    assert not await fetch(admin, "SELECT * FROM ledger_differences()")
    charged = await fetch(admin, "SELECT cost_usd FROM ledger WHERE kind = 'subscription'")
    assert [row["cost_usd"] for row in charged] == [29], "however often it flipped"
    await set_plan(gateway, person, "free")
    assert (await ask(person)).status_code == 402
    await set_plan(gateway, person, "enterprise")
    assert (await ask(person)).status_code == 200


async def test_a_question_that_waits_for_a_plan_change_is_judged_by_the_new_plan(
    gateway: Gateway, person: Person, admin: Database
) -> None:
    await execute(admin, "UPDATE plans SET messages_per_month = 0 WHERE name = 'free'")
    await set_plan(gateway, person, "pro")
    database = gateway.app.state.payments.plan_changes._database
    async with database.tenant(UUID(person.tenant_id)) as connection:
        await connection.execute(
            "SELECT change_plan($1, 'free', $2, 'operator', NULL)", UUID(person.tenant_id), new_id()
        )
        waiting = asyncio.create_task(ask(person))
        while not await fetch(admin, "SELECT FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)
    assert (await waiting).status_code == 402


async def test_a_plan_change_changes_rate_limits_at_once(gateway: Gateway, person: Person) -> None:
    before = await person.http.get("/auth/me")
    assert '"requests";q=600' in before.headers["ratelimit-policy"]
    await set_plan(gateway, person, "pro")
    after = await person.http.get("/auth/me")
    assert '"requests";q=3000' in after.headers["ratelimit-policy"]


async def test_a_smaller_plan_deletes_nothing_and_refuses_uploads(
    gateway: Gateway, person: Person, admin: Database
) -> None:
    await set_plan(gateway, person, "pro")
    for number in range(3):
        answer = await person.http.post(
            "/documents", files={"file": (f"{number}.txt", f"text {number}".encode())}
        )
        assert answer.status_code == 202
    await execute(admin, "UPDATE plans SET documents = 1 WHERE name = 'free'")
    await set_plan(gateway, person, "free")
    refused = await person.http.post("/documents", files={"file": ("more.txt", b"more")})
    assert refused.status_code == 402
    assert refused.json()["quota"] == "documents"
    kept = (await person.http.get("/documents")).json()["items"]
    assert len(kept) == 3
    quota = (await person.http.get("/billing/usage")).json()["quotas"]["documents"]
    assert (quota["limit"], quota["used"], quota["remaining"]) == (1, 3, 0)
    for document in kept:
        await person.http.delete(f"/documents/{document['id']}")
    again = await person.http.post("/documents", files={"file": ("more.txt", b"more")})
    assert again.status_code == 202


async def test_uploads_are_not_refused_by_mistake_while_the_plan_flips(
    gateway: Gateway, person: Person
) -> None:
    async def upload(number: int) -> int:
        body = {"file": (f"{number}.txt", f"text {number}".encode())}
        return (await person.http.post("/documents", files=body)).status_code

    async def flip() -> None:
        for plan in ("pro", "free") * 10:
            await set_plan(gateway, person, plan)

    statuses, _ = await asyncio.gather(asyncio.gather(*map(upload, range(30))), flip())
    assert set(statuses) == {202}


async def test_plan_changes_are_kept_and_audited(
    gateway: Gateway, person: Person, admin: Database
) -> None:
    for plan in ("pro", "pro", "free"):
        await set_plan(gateway, person, plan)
    changes = await fetch(admin, "SELECT * FROM plan_changes ORDER BY changed_at")
    assert [(row["from_plan"], row["to_plan"]) for row in changes] == [
        ("free", "pro"),
        ("pro", "free"),
    ]
    assert {row["period"] for row in changes} == {MONTH}
    events = await fetch(
        admin, "SELECT * FROM audit_log WHERE action = 'plan.changed' ORDER BY created_at"
    )
    assert [event["subject"] for event in events] == ["plan:pro", "plan:free"]
    assert events[0]["details"] == {"from": "free", "charged_usd": "29.0000000000"}
    assert {event["actor_kind"] for event in events} == {"operator"}


async def test_nobody_rewrites_the_ledger_or_the_history(
    gateway: Gateway, person: Person, admin: Database, database_urls: dict[str, str]
) -> None:
    await set_plan(gateway, person, "pro")
    for role in ("gateway", "data", "serving", "admin"):
        connection = await asyncpg.connect(database_urls[role])
        for statement in (
            "UPDATE ledger SET cost_usd = 0",
            "DELETE FROM ledger",
            "TRUNCATE ledger",
            "UPDATE plan_changes SET to_plan = 'free'",
            "DELETE FROM plan_changes",
        ):
            with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.RaiseError)):
                await connection.execute(statement)
        await connection.close()
    rows = await fetch(admin, "SELECT request_id, kind FROM ledger")
    with pytest.raises(asyncpg.UniqueViolationError):
        await execute(
            admin,
            "INSERT INTO ledger (id, tenant_id, request_id, kind, period, model, mode, "
            "prompt_tokens, completion_tokens, cost_usd, terms_id) "
            "VALUES ($1, $2, $3, $4, $5, 'pro', 'plan', 0, 0, 29, 1)",
            new_id(),
            UUID(person.tenant_id),
            *rows[0],
            MONTH,
        )


async def test_the_gateway_changes_plans_only_by_their_function(
    person: Person, database_urls: dict[str, str]
) -> None:
    connection = await asyncpg.connect(database_urls["gateway"])
    await connection.execute("SELECT set_config('app.tenant_id', $1, false)", person.tenant_id)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("UPDATE tenants SET plan = 'enterprise'")
    await connection.close()


async def test_a_month_is_charged_once_and_an_upgrade_by_its_difference(
    gateway: Gateway, person: Person, admin: Database
) -> None:
    changes = gateway.app.state.payments.plan_changes
    for plan in ("pro", "enterprise", "free", "pro", "enterprise"):
        await set_plan(gateway, person, plan)
        await asyncio.gather(*(changes.charge() for _ in range(4)))
    rows = await fetch(
        admin, "SELECT model, cost_usd, user_id FROM ledger WHERE kind = 'subscription'"
    )
    assert {(row["model"], row["cost_usd"]) for row in rows} == {
        ("pro", Decimal(29)),
        ("enterprise", Decimal(470)),
    }
    assert len(rows) == 2
    assert {row["user_id"] for row in rows} == {None}


async def test_a_month_that_begins_on_a_paid_plan_is_charged_by_many_processes_once(
    gateway: Gateway, person: Person, admin: Database
) -> None:
    await execute(admin, "UPDATE tenants SET plan = 'pro' WHERE id = $1", UUID(person.tenant_id))
    changes = gateway.app.state.payments.plan_changes
    counts = await asyncio.gather(*(changes.charge() for _ in range(5)))
    assert sum(counts) == 1
    await set_plan(gateway, person, "free")
    assert await changes.charge() == 0
    rows = await fetch(admin, "SELECT cost_usd FROM ledger WHERE kind = 'subscription'")
    assert [row["cost_usd"] for row in rows] == [29]


async def test_many_tenants_are_charged_once_each(gateway: Gateway, admin: Database) -> None:
    await execute(
        admin,
        "INSERT INTO tenants (id, name, plan) "
        "SELECT gen_random_uuid(), 'a team', 'pro' FROM generate_series(1, 120)",
    )
    changes = gateway.app.state.payments.plan_changes

    async def none_is_left() -> bool:
        await asyncio.gather(*(changes.charge() for _ in range(3)))
        charged = await fetch(admin, "SELECT cost_usd FROM ledger WHERE kind = 'subscription'")
        assert {row["cost_usd"] for row in charged} <= {29}
        assert len(charged) <= 120
        return len(charged) == 120

    await until(none_is_left)
    assert await changes.charge() == 0


async def test_a_downgrade_before_the_first_charge_of_a_month_does_not_avoid_it(
    gateway: Gateway, person: Person, admin: Database
) -> None:
    await execute(admin, "UPDATE tenants SET plan = 'pro' WHERE id = $1", UUID(person.tenant_id))
    await set_plan(gateway, person, "free")
    rows = await fetch(admin, "SELECT model FROM ledger WHERE kind = 'subscription'")
    assert [row["model"] for row in rows] == ["pro"]


async def test_subscriptions_are_no_usage(gateway: Gateway, person: Person) -> None:
    await set_plan(gateway, person, "pro")
    usage = (await person.http.get("/billing/usage")).json()
    assert usage["totals"]["messages"] == 0
    assert Decimal(usage["totals"]["cost_usd"]) == 0
    assert usage["items"] == []


async def test_usage_spans_include_their_start_and_exclude_their_end(
    person: Person, admin: Database
) -> None:
    first, second = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)
    for at in (
        first - timedelta(microseconds=1),
        first,
        second - timedelta(microseconds=1),
        second,
    ):
        await bill(admin, person, at, cost_usd=Decimal("0.0000000001"))
    span = {"from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z"}
    usage = (await person.http.get("/billing/usage", params=span)).json()
    assert usage["totals"]["messages"] == 2
    assert usage["totals"]["cost_usd"] == "0.0000000002"
    assert usage["period"] == span
    assert [item["day"] for item in usage["items"]] == ["2026-03-01"]
    local = {"from": "2026-03-01T02:00:00+02:00", "to": "2026-03-02T02:00:00+02:00"}
    assert (await person.http.get("/billing/usage", params=local)).json() == usage
    naive = {"from": "2026-03-01T00:00:00", "to": "2026-03-02T00:00:00"}
    assert (await person.http.get("/billing/usage", params=naive)).json() == usage
    empty = {"from": span["to"], "to": span["from"]}
    assert (await person.http.get("/billing/usage", params=empty)).status_code == 422


async def test_an_answer_that_midnight_overtakes_counts_for_the_day_of_its_question(
    person: Person, admin: Database, plane: FakePlane
) -> None:
    plane.hold = asyncio.Event()
    asking = asyncio.create_task(ask(person))
    while not await fetch(admin, "SELECT FROM reservations"):
        await asyncio.sleep(0.01)
    asked_at = datetime.combine(MONTH, datetime.min.time(), UTC) - timedelta(seconds=1)
    await execute(
        admin,
        "INSERT INTO quota_periods (tenant_id, period, messages_reserved, tokens_reserved, "
        "cost_usd_reserved) SELECT tenant_id, $1, messages_reserved, tokens_reserved, "
        "cost_usd_reserved FROM quota_periods",
        LAST_MONTH,
    )
    await execute(admin, "DELETE FROM quota_periods WHERE period = $1", MONTH)
    await execute(
        admin, "UPDATE reservations SET created_at = $1, period = $2", asked_at, LAST_MONTH
    )
    plane.hold.set()
    assert (await asking).status_code == 200
    assert [invoice["status"] for invoice in await invoices(person)] == ["closed"]
    assert (await person.http.get("/billing/usage")).json()["totals"]["messages"] == 0
    params = {"from": LAST_MONTH.isoformat(), "to": MONTH.isoformat()}
    usage = (await person.http.get("/billing/usage", params=params)).json()
    assert [item["day"] for item in usage["items"]] == [asked_at.date().isoformat()]
    assert not await fetch(admin, "SELECT * FROM ledger_differences()")


async def test_invoices_are_rebuilt_from_the_ledger(
    gateway: Gateway, person: Person, admin: Database
) -> None:
    await execute(admin, "UPDATE plans SET included_usage_usd = 0.005 WHERE name = 'pro'")
    await set_plan(gateway, person, "pro")
    await bill(admin, person, NOW, model="a", cost_usd=Decimal("0.0100000001"))
    await bill(admin, person, NOW, model="b", cost_usd=Decimal("0.0099999999"))
    await bill(admin, person, NOW, model="b", cost_usd=Decimal("0.0000000000"))
    await bill(admin, person, datetime.combine(LAST_MONTH, datetime.min.time(), UTC))
    current, last = await invoices(person)
    assert current["status"] == "open"
    assert [(line["kind"], line["model"], line["amount_usd"]) for line in current["lines"]] == [
        ("plan", None, "29.0000000000"),
        ("usage", "a", "0.0100000001"),
        ("usage", "b", "0.0099999999"),
        ("included", None, "-0.0050000000"),
    ]
    assert current["total_usd"] == "29.02", "half to even, and only here: 29.015"
    assert current["lines"][2]["messages"] == 2
    assert current["lines"][2]["completion_tokens"] == 4
    assert current["number"].startswith(f"PP-{MONTH:%Y-%m}-")
    assert last["status"] == "closed"
    assert (current["issue_date"], last["issue_date"]) == (None, MONTH.isoformat())
    assert last["total_usd"] == "0.00", "the free plan includes everything"
    assert await invoices(person) == [current, last]
    page = (await person.http.get("/billing/invoices", params={"limit": 1})).json()
    rest = (
        await person.http.get("/billing/invoices", params={"cursor": page["next_cursor"]})
    ).json()
    assert [each["id"] for each in page["items"] + rest["items"]] == [current["id"], last["id"]]
    assert rest["next_cursor"] is None


async def test_an_operator_who_changes_a_plan_changes_no_invoice(
    gateway: Gateway, person: Person, stranger: Person, admin: Database
) -> None:
    await set_plan(gateway, person, "pro")
    await bill(admin, person, NOW, cost_usd=Decimal(7))
    before = await invoices(person)
    await execute(
        admin,
        "UPDATE plans SET title = 'Team', monthly_price_usd = 39, included_usage_usd = 5 "
        "WHERE name = 'pro'",
    )
    assert await invoices(person) == before
    assert await gateway.app.state.payments.plan_changes.charge() == 0, "paid for this month"
    await set_plan(gateway, stranger, "pro")
    await bill(admin, stranger, NOW, cost_usd=Decimal(7))
    (newer,) = await invoices(stranger)
    assert [line["description"] for line in newer["lines"]] == [
        "Plan Team",
        "Usage of m",
        "Included in plan Team",
    ]
    assert newer["total_usd"] == "41.00"
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await execute(admin, "UPDATE plan_terms SET included_usage_usd = NULL")


async def test_a_deleted_tenant_is_charged_no_more(
    gateway: Gateway, person: Person, admin: Database
) -> None:
    tenant = UUID(person.tenant_id)
    await execute(
        admin, "UPDATE tenants SET plan = 'pro', deleted_at = now() WHERE id = $1", tenant
    )
    assert await gateway.app.state.payments.plan_changes.charge() == 0
    with pytest.raises(NotFound):
        await set_plan(gateway, person, "free")
    assert not await fetch(admin, "SELECT FROM ledger")


async def test_months_without_activity_have_no_invoice(person: Person) -> None:
    assert await invoices(person) == []


async def test_an_upgrade_is_a_line_of_its_own(gateway: Gateway, person: Person) -> None:
    await set_plan(gateway, person, "pro")
    await set_plan(gateway, person, "enterprise")
    (invoice,) = await invoices(person)
    assert [line["description"] for line in invoice["lines"]] == [
        "Plan Pro",
        "Change to plan Enterprise, difference",
    ]
    assert invoice["total_usd"] == "499.00"


async def test_an_invoice_is_a_pdf_too(gateway: Gateway, person: Person, admin: Database) -> None:
    name = "Bücher für Ελλάδα и Москва"
    await execute(admin, "UPDATE tenants SET name = $2 WHERE id = $1", UUID(person.tenant_id), name)
    await set_plan(gateway, person, "pro")
    (invoice,) = await invoices(person)
    path = f"/billing/invoices/{invoice['id']}"
    asked = await person.http.get(path, headers={"accept": "application/pdf"})
    assert asked.headers["content-type"] == "application/pdf"
    text = pypdfium2.PdfDocument(asked.content)[0].get_textpage().get_text_range()
    for part in (name, invoice["number"], "Plan Pro", "29.00 USD", "Open"):
        assert part in text
    again = await person.http.get(path, params={"format": "pdf"})
    assert again.headers["content-type"] == "application/pdf"
    chosen = await person.http.get(
        path, params={"format": "json"}, headers={"accept": "application/pdf"}
    )
    assert chosen.json() == invoice


async def test_invoices_are_for_owners_and_admins_of_the_tenant(
    gateway: Gateway, person: Person, stranger: Person, admin: Database
) -> None:
    await set_plan(gateway, person, "pro")
    (invoice,) = await invoices(person)
    foreign = await stranger.http.get(f"/billing/invoices/{invoice['id']}")
    absent = await stranger.http.get(f"/billing/invoices/{uuid4()}")
    assert foreign.status_code == absent.status_code == 404
    assert foreign.json()["detail"] == absent.json()["detail"]
    for role, status in (("admin", 200), ("member", 403), ("viewer", 403)):
        await execute(
            admin, "UPDATE memberships SET role = $2 WHERE user_id = $1", UUID(person.user_id), role
        )
        email = (await fetch(admin, "SELECT email FROM users WHERE id = $1", UUID(person.user_id)))[
            0
        ]
        signed_in = await person.http.post(
            "/auth/login",
            json={"email": email["email"], "password": "seven herons near a quiet lake"},
        )
        bearer = {"authorization": f"Bearer {signed_in.json()['access_token']}"}
        for path in ("/billing/invoices", f"/billing/invoices/{invoice['id']}"):
            assert (await person.http.get(path, headers=bearer)).status_code == status
        for path in ("/billing/usage", "/billing/plans"):
            assert (await person.http.get(path, headers=bearer)).status_code == 200
        body = {"plan": "enterprise"}
        answer = await person.http.post("/billing/subscription", json=body, headers=bearer)
        assert answer.status_code == 403


async def test_a_damaged_quota_row_is_found_and_rebuilt(person: Person, admin: Database) -> None:
    assert (await ask(person)).status_code == 200
    assert not await fetch(admin, "SELECT * FROM ledger_differences()")
    await execute(admin, "UPDATE quota_periods SET messages_used = 7, cost_usd_used = 0")
    found = await fetch(admin, "SELECT * FROM ledger_differences()")
    assert [(row["quantity"], row["kept"]) for row in found] == [
        ("cost_usd_used", 0),
        ("messages_used", 7),
    ]
    await execute(admin, "SELECT rebuild_quota($1, $2)", UUID(person.tenant_id), MONTH)
    assert not await fetch(admin, "SELECT * FROM ledger_differences()")


async def test_what_a_plan_lacks_is_forbidden_and_says_so(person: Person, admin: Database) -> None:
    calls = {
        "api-keys": ("POST", "/auth/api-keys", {"name": "a key", "scopes": ["chat"]}),
        "invitations": ("POST", "/tenant/invitations", {"email": "a@b.example", "role": "member"}),
        "audit-log": ("GET", "/tenant/audit", None),
        "export": ("GET", "/tenant/export", None),
        "open-chat": ("POST", "/chat", {"message": "Hello?", "mode": "open"}),
    }
    for feature, (method, path, body) in calls.items():
        allowed = await person.http.request(method, path, json=body)
        assert allowed.status_code in {200, 201}, f"{feature}: {allowed.text}"
    await execute(admin, "UPDATE plans SET features = '{}' WHERE name = 'free'")
    for feature, (method, path, body) in calls.items():
        refused = await person.http.request(method, path, json=body)
        assert refused.status_code == 403, feature
        assert (refused.json()["feature"], refused.json()["plan"]) == (feature, "free")
    assert (await ask(person)).status_code == 200, "questions about documents are for everybody"


@pytest.fixture
def operator(
    monkeypatch: pytest.MonkeyPatch, database_urls: dict[str, str], redis_url: str
) -> Callable[..., Awaitable[Result]]:
    """Run `polyplane admin` on the machine of this database."""

    class Machine:
        def database_url(self, role: str) -> str:
            return database_urls[role.removeprefix("polyplane_")]

        def settings(self, kind: type[RedisSettings]) -> RedisSettings:
            return kind.of({"REDIS_URL": redis_url})

    monkeypatch.setattr(admin_plans, "running", Machine)

    async def run(*arguments: object) -> Result:
        words = [str(argument) for argument in arguments]
        return await asyncio.to_thread(CliRunner().invoke, admin_commands, words)

    return run


async def test_the_operator_sets_plans_by_tenant_or_by_owner(
    person: Person, admin: Database, operator: Callable[..., Awaitable[Result]]
) -> None:
    listed = await operator("list-plans")
    assert "29.00 USD" in listed.output
    by_id = await operator("set-plan", "--tenant", person.tenant_id, "--plan", "pro")
    assert (by_id.exit_code, "free -> pro" in by_id.output) == (0, True), by_id.output
    assert "29.00 USD" in by_id.output
    policy = (await person.http.get("/auth/me")).headers["ratelimit-policy"]
    assert '"requests";q=3000' in policy
    email = (await fetch(admin, "SELECT email FROM users"))[0]["email"]
    by_owner = await operator("set-plan", "--email", email.upper(), "--plan", "free")
    assert by_owner.exit_code == 0, by_owner.output
    assert (await person.http.get("/billing/plans")).json()["current"] == "free"
    for wrong in (
        ("--tenant", person.tenant_id, "--plan", "gold"),
        ("--tenant", uuid4(), "--plan", "pro"),
        ("--email", "nobody@example.com", "--plan", "pro"),
    ):
        assert (await operator("set-plan", *wrong)).exit_code == 1
    assert (await operator("set-plan", "--plan", "pro")).exit_code == 2


async def test_the_operator_checks_the_ledger(
    person: Person, admin: Database, operator: Callable[..., Awaitable[Result]]
) -> None:
    assert (await ask(person)).status_code == 200
    sound = await operator("check-ledger")
    assert (sound.exit_code, sound.output.strip()) == (0, "0 differences")
    await execute(admin, "UPDATE quota_periods SET messages_used = 7")
    damaged = await operator("check-ledger")
    assert damaged.exit_code == 1
    assert "messages_used: 7 instead of 1" in damaged.output
    assert (await operator("check-ledger", "--repair")).exit_code == 0
    assert (await operator("check-ledger")).exit_code == 0
