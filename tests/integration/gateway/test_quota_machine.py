"""Quotas, reservations, ledger, plan changes and charges against a simple model, by Hypothesis.

Random programs run over the real functions of a real PostgreSQL on two connections, some steps on
both at once. After each step the database says what the model says, to the last digit.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from planes.shared.domain import ChatMode, TenantContext, new_id
from planes.shared.errors import QuotaExceeded
from planes.shared.stores.postgres import Database
from services.gateway.billing import plan_repository
from services.gateway.billing.plan_repository import PlanChange
from services.gateway.chat import booking, repository
from services.gateway.chat.booking import Intent, Settlement
from services.gateway.chat.repository import Produced

T = TypeVar("T")
PROMPT, COMPLETION = 1000, 200
WORST_TOKENS = PROMPT + COMPLETION
CONNECTIONS = st.integers(0, 1)
CHOICES = st.integers(0, 9)
TOKENS = st.tuples(st.integers(0, PROMPT), st.integers(0, COMPLETION))


@dataclass(frozen=True)
class Plan:
    messages: int | None
    tokens: int | None
    price: Decimal


PLANS = {
    "small": Plan(3, 6 * WORST_TOKENS, Decimal(0)),
    "middle": Plan(6, 4 * WORST_TOKENS, Decimal("29.99")),
    "large": Plan(None, None, Decimal("99.5")),
}


def chosen(answers: list["Answer"], which: int) -> "Answer":
    """Return one of some answers."""
    return answers[which % len(answers)]


def cost_of(prompt: int, completion: int) -> Decimal:
    """Return the price of `extractive`, as the price list has it."""
    return prompt * Decimal("0.00000001") + completion * Decimal("0.00000004")


@dataclass
class Answer:
    """An answer as the model knows it."""

    intent: Intent
    settlement: Settlement
    is_open: bool = True
    has_expired: bool = False
    checkpoint: tuple[int, int] = (0, 0)
    cost: Decimal | None = None


@dataclass
class Books:
    """What a tenant's rows should say."""

    plan: str = "small"
    answers: list[Answer] = field(default_factory=list)
    entries: list[tuple[str, int, Decimal]] = field(default_factory=list)
    charges: dict[str, Decimal] = field(default_factory=dict)

    @property
    def open(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.is_open]

    def has_room(self) -> bool:
        """Whether the plan covers one more worst case."""
        plan = PLANS[self.plan]
        messages = len(self.entries) + len(self.open)
        tokens = sum(entry[1] for entry in self.entries) + WORST_TOKENS * len(self.open)
        has_messages = plan.messages is None or messages < plan.messages
        return has_messages and (plan.tokens is None or tokens + WORST_TOKENS <= plan.tokens)

    def bill(self, answer: Answer, prompt: int, completion: int) -> None:
        answer.is_open, answer.cost = False, cost_of(prompt, completion)
        self.entries.append((str(answer.intent.answer_id), prompt + completion, answer.cost))

    def charge(self) -> None:
        """Charge this month of the plan, less what was charged."""
        due = PLANS[self.plan].price - sum(self.charges.values(), Decimal(0))
        if due > 0 and self.plan not in self.charges:
            self.charges[self.plan] = due


@dataclass
class Bench:
    """A database for all programs: the gateway's two connections, and an administrator's."""

    loop: asyncio.Runner
    gateways: list[Database]
    admin: Database

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(work)


class QuotaMachine(RuleBasedStateMachine):
    """One tenant, asking, paying and changing its mind.

    Every rule may always run, and does nothing where there is nothing to act on: with who wins a
    race as a precondition of later rules, a program could not be run again.
    """

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        self.books = Books()
        self.seen: dict[UUID, asyncpg.Record] = {}
        self.context = TenantContext(new_id(), new_id())

    @initialize()
    def begin(self) -> None:
        async def insert() -> None:
            tenant, user = self.context.tenant_id, self.context.user_id
            async with self.bench.admin.platform() as connection:
                await connection.execute(
                    "INSERT INTO tenants (id, name, plan) VALUES ($1, 'a team', 'small')", tenant
                )
                await connection.execute(
                    "INSERT INTO users (id, email, email_key, password_hash, display_name) "
                    "VALUES ($1, $2, $2, '', 'Ada')",
                    user,
                    str(user),
                )

        self.bench.run(insert())

    def intent(self, conversation: UUID | None) -> Intent:
        return Intent(
            answer_id=new_id(),
            conversation_id=conversation or new_id(),
            title=None if conversation else "a title",
            mode=ChatMode.RAG,
            document_ids=None,
            question_id=new_id(),
            question="How long?",
            message_id=new_id(),
            model="extractive",
            max_prompt_tokens=PROMPT,
            max_tokens=COMPLETION,
        )

    async def on(
        self, number: int, work: Callable[[Any], Coroutine[Any, Any, T]], *, tenant: bool = False
    ) -> T:
        database = self.bench.gateways[number]
        scope = database.tenant(self.context.tenant_id) if tenant else database.platform()
        async with scope as connection:
            return await work(connection)

    async def reserve(self, number: int, intent: Intent) -> bool:
        try:
            await self.on(number, lambda c: booking.reserve(c, self.context, intent))
        except QuotaExceeded:
            return False
        return True

    async def settle(
        self, number: int, answer: Answer, settlement: Settlement | None = None
    ) -> Decimal | None:
        settled = settlement or answer.settlement
        return await self.on(
            number,
            lambda c: booking.settle(c, self.context, answer.intent.answer_id, settled),
        )

    async def sweep(self, number: int) -> None:
        while await self.on(number, lambda c: c.fetchval("SELECT sweep_reservations(1)")):
            pass  # others' answers too, which earlier programs left

    def _opened(self, intent: Intent, tokens: tuple[int, int]) -> None:
        payload = {"content": "x", "citations": []}
        self.books.answers.append(Answer(intent, Settlement("extractive", *tokens, payload)))

    @rule(number=CONNECTIONS, tokens=TOKENS, follows=st.booleans())
    def ask(self, number: int, tokens: tuple[int, int], follows: bool) -> None:
        busy = {each.intent.conversation_id for each in self.books.open}
        idle = [
            each.intent.conversation_id
            for each in self.books.answers
            if each.cost is not None and each.intent.conversation_id not in busy
        ]
        intent = self.intent(idle[-1] if follows and idle else None)
        expected = self.books.has_room()
        assert self.bench.run(self.reserve(number, intent)) is expected
        if expected:
            self._opened(intent, tokens)

    @rule(tokens=TOKENS, burst=st.integers(2, 5))
    def ask_at_once(self, tokens: tuple[int, int], burst: int) -> None:
        intents = [self.intent(None) for _ in range(burst)]

        async def all_at_once() -> list[bool]:
            asking = [self.reserve(n % 2, intent) for n, intent in enumerate(intents)]
            return await asyncio.gather(*asking)

        served = self.bench.run(all_at_once())
        for intent in (each for each, reserved in zip(intents, served, strict=True) if reserved):
            assert self.books.has_room(), "more than the plan allows"
            self._opened(intent, tokens)
        assert all(served) or not self.books.has_room(), "fewer than the plan allows"

    @rule(number=CONNECTIONS, which=CHOICES, tokens=TOKENS)
    def checkpoint(self, number: int, which: int, tokens: tuple[int, int]) -> None:
        if not self.books.open:
            return
        answer = chosen(self.books.open, which)

        produced = Produced(*tokens, "x", "extractive")
        kept = self.bench.run(
            self.on(
                number,
                lambda c: repository.checkpoint(c, self.context, answer.intent.answer_id, produced),
            )
        )
        assert kept
        answer.has_expired = False
        answer.checkpoint = tokens

    @rule(number=CONNECTIONS, which=CHOICES)
    def finish(self, number: int, which: int) -> None:
        if not self.books.open:
            return
        answer = chosen(self.books.open, which)
        settled = answer.settlement
        self.books.bill(answer, settled.prompt_tokens, settled.completion_tokens)
        assert self.bench.run(self.settle(number, answer)) == answer.cost

    @rule(number=CONNECTIONS, which=CHOICES)
    def finish_again(self, number: int, which: int) -> None:
        billed = [each for each in self.books.answers if each.cost is not None]
        if not billed:
            return
        answer = chosen(billed, which)
        again = self.bench.run(self.settle(number, answer))
        assert again in {answer.cost, None}, "None: the sweeper billed it"
        stranger = replace(answer.settlement, ledger_id=new_id())
        assert self.bench.run(self.settle(number, answer, stranger)) is None

    @rule(number=CONNECTIONS, which=CHOICES, undo=st.booleans())
    def release(self, number: int, which: int, undo: bool) -> None:
        if not self.books.open:
            return
        answer = chosen(self.books.open, which)
        answer.is_open = False
        for _ in range(2):
            self.bench.run(
                self.on(
                    number,
                    lambda c: repository.release(
                        c, self.context, answer.intent.answer_id, undo=undo
                    ),
                )
            )

    @rule(which=CHOICES)
    def die(self, which: int) -> None:
        if not self.books.open:
            return
        answer = chosen(self.books.open, which)
        answer.has_expired = True

        async def expire() -> None:
            async with self.bench.admin.platform() as connection:
                await connection.execute(
                    "UPDATE reservations SET expires_at = now() - $2::interval WHERE id = $1",
                    answer.intent.answer_id,
                    timedelta(seconds=1),
                )

        self.bench.run(expire())

    @rule(number=CONNECTIONS)
    def sweep_up(self, number: int) -> None:
        dead = [answer for answer in self.books.open if answer.has_expired]
        self.bench.run(self.sweep(number))
        self._buried(dead)

    @rule()
    def sweep_on_both(self) -> None:
        dead = [answer for answer in self.books.open if answer.has_expired]

        async def both() -> None:
            await asyncio.gather(self.sweep(0), self.sweep(1))

        self.bench.run(both())
        self._buried(dead)

    def _buried(self, dead: list[Answer]) -> None:
        for answer in dead:
            if answer.checkpoint[1] > 0:
                self.books.bill(answer, *answer.checkpoint)
            answer.is_open = False

    @rule(which=CHOICES)
    def finish_while_it_is_swept(self, which: int) -> None:
        dead = [each for each in self.books.open if each.has_expired]
        if not dead:
            return
        answer = chosen(dead, which)

        async def both() -> Decimal | None:
            cost, _ = await asyncio.gather(self.settle(0, answer), self.sweep(1))
            return cost

        cost = self.bench.run(both())
        if cost is not None:
            settled = answer.settlement
            self.books.bill(answer, settled.prompt_tokens, settled.completion_tokens)
        self._buried([each for each in dead if each.is_open])
        self.bench.run(self.sweep(0))

    @rule(number=CONNECTIONS, plan=st.sampled_from(sorted(PLANS)))
    def change_plan(self, number: int, plan: str) -> None:
        change = PlanChange(self.context.tenant_id, plan, "operator")
        done = self.bench.run(
            self.on(number, lambda c: plan_repository.change_plan(c, change), tenant=True)
        )
        assert done.from_plan == self.books.plan
        if done.is_change:
            self.books.charge()
            self.books.plan = plan
            self.books.charge()

    @rule()
    def charge_on_both(self) -> None:
        async def both() -> None:
            await asyncio.gather(
                *(self.on(n, lambda c: plan_repository.charge_subscriptions(c, 1)) for n in (0, 1))
            )

        self.bench.run(both())
        self.books.charge()

    @invariant()
    def the_books_agree(self) -> None:
        quota, ledger, differences = self.bench.run(self._read())
        entries = [(str(r["request_id"]), r["tokens"], r["cost_usd"]) for r in ledger["answer"]]
        assert sorted(entries) == sorted(self.books.entries)
        charges = {row["model"]: row["cost_usd"] for row in ledger["subscription"]}
        assert charges == self.books.charges
        assert not differences
        costs = sum((entry[2] for entry in self.books.entries), Decimal(0))
        opened = len(self.books.open)
        assert quota == (
            len(self.books.entries),
            opened,
            sum(entry[1] for entry in self.books.entries),
            opened * WORST_TOKENS,
            costs,
            opened * cost_of(PROMPT, COMPLETION),
        )
        rows = {row["id"]: row for rows in ledger.values() for row in rows}
        assert self.seen.items() <= rows.items(), "the ledger only grows"
        self.seen = rows

    async def _read(self) -> tuple[tuple[Any, ...], dict[str, list[asyncpg.Record]], list[Any]]:
        async with self.bench.gateways[0].tenant(self.context.tenant_id) as connection:
            quota = await connection.fetchrow(
                "SELECT messages_used, messages_reserved, tokens_used, tokens_reserved, "
                "cost_usd_used, cost_usd_reserved FROM quota_periods"
            )
            rows = await connection.fetch(
                "SELECT *, prompt_tokens + completion_tokens AS tokens FROM ledger"
            )
            differences = await connection.fetch(
                "SELECT * FROM ledger_differences() WHERE tenant_id = $1", self.context.tenant_id
            )
        kinds = ("answer", "subscription")
        ledger = {kind: [row for row in rows if row["kind"] == kind] for kind in kinds}
        return tuple(quota) if quota else (0,) * 6, ledger, differences


def test_quotas_and_ledger_agree_with_a_model_whatever_happens(
    database_urls: dict[str, str],
) -> None:
    with asyncio.Runner() as loop:
        bench = Bench(
            loop,
            [
                Database(database_urls["gateway"], service=f"gateway-{number}", max_connections=4)
                for number in range(2)
            ],
            Database(database_urls["admin"], service="admin", max_connections=2),
        )
        databases = [*bench.gateways, bench.admin]
        for database in databases:
            bench.run(database.open())
        bench.run(_make_plans(bench.admin))
        try:
            run_state_machine_as_test(
                lambda: QuotaMachine(bench),
                settings=settings(
                    max_examples=40,
                    stateful_step_count=40,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            for database in databases:
                bench.run(database.close())


async def _make_plans(admin: Database) -> None:
    async with admin.platform() as connection:
        for position, (name, plan) in enumerate(PLANS.items(), start=10):
            await connection.execute(
                "INSERT INTO plans (name, title, monthly_price_usd, messages_per_month, "
                "tokens_per_month, requests_per_minute, chat_requests_per_minute, position) "
                "VALUES ($1, $1, $2, $3, $4, 60, 60, $5)",
                name,
                plan.price,
                plan.messages,
                plan.tokens,
                position,
            )
