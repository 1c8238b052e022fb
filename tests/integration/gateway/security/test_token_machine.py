"""Sessions against a model: two gateway processes, and every order of acts that hypothesis finds.

RFC 9700, 4.14.2: a refresh token is used once; a second use by another party ends its family.
"""

import asyncio
import hashlib
import ipaddress
import secrets
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import httpx
import jwt
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.integration.gateway.auth.conftest import gateway

Result = TypeVar("Result")
_BOUNDED = settings(
    max_examples=8,
    stateful_step_count=12,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass(eq=False)
class Person:
    """The model of an account; `version` counts what voids all of its access tokens."""

    email: str
    password: str
    version: int = 1
    sessions: list["Session"] = field(default_factory=list)


@dataclass(eq=False)
class Session:
    """The model of a family of refresh tokens, the newest last, and its access tokens."""

    person: Person
    family: list[str]
    access: list[tuple[str, int]]
    is_alive: bool = True

    @property
    def id(self) -> str:
        """The family's id, as its access tokens say it."""
        claims = jwt.decode(self.access[0][0], options={"verify_signature": False})
        return str(claims["session"])

    @property
    def working(self) -> str | None:
        """An access token that must work, if there is one."""
        token, version = self.access[-1]
        return token if self.is_alive and version == self.person.version else None

    def received(self, tokens: dict[str, Any]) -> None:
        """Note a successful refresh."""
        if tokens["refresh_token"] != self.family[-1]:
            self.family.append(tokens["refresh_token"])
        self.access.append((tokens["access_token"], self.person.version))


class Processes:
    """Two gateways over the same stores, called from changing addresses."""

    def __init__(self, database: asyncpg.Connection, apps: list[Any]) -> None:
        self.database = database
        self._apps = apps

    async def call(self, which: int, path: str, **request: Any) -> httpx.Response:
        """Call one of the two; a body makes it a POST."""
        token: str | None = request.pop("token", None)
        method = request.pop("method", "POST" if "json" in request else "GET")
        address = str(ipaddress.IPv4Address(secrets.randbits(32)))
        transport = httpx.ASGITransport(self._apps[which], client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
            headers = {"authorization": f"Bearer {token}"} if token else {}
            return await http.request(method, path, headers=headers, **request)

    async def refresh(self, which: int, token: str) -> httpx.Response:
        """Present a refresh token."""
        return await self.call(which, "/auth/refresh", json={"refresh_token": token})

    async def used_ago(self, token: str, interval: str) -> None:
        """Say how long ago a refresh token was used, so that no test waits for the grace to end."""
        changed = await self.database.execute(
            "UPDATE refresh_tokens SET used_at = now() - $2::text::interval WHERE token_hash = $1",
            hashlib.sha256(token.encode()).digest(),
            interval,
        )
        assert changed == "UPDATE 1"


either = st.integers(0, 1)


class SessionMachine(RuleBasedStateMachine):
    """Acts of people and thieves; after each, every token works exactly where the model says."""

    people = Bundle("people")
    sessions = Bundle("sessions")

    def __init__(self, processes: Processes, runner: asyncio.Runner) -> None:
        super().__init__()
        self._gateways = processes
        self._runner = runner
        self._touched: list[Session] = []

    def _run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return self._runner.run(coroutine)

    def _opened(self, person: Person, tokens: dict[str, Any]) -> Session:
        session = Session(
            person, [tokens["refresh_token"]], [(tokens["access_token"], person.version)]
        )
        person.sessions.append(session)
        self._touched = [session]
        return session

    @rule(target=people, which=either)
    def register(self, which: int) -> Person:
        person = Person(f"{secrets.token_hex(8)}@example.com", secrets.token_hex(10))
        body = {"email": person.email, "password": person.password}
        answer = self._run(self._gateways.call(which, "/auth/register", json=body))
        assert answer.status_code == 201, answer.text
        self._opened(person, answer.json())
        return person

    @rule(target=sessions, person=people, which=either)
    def sign_in(self, person: Person, which: int) -> Session:
        body = {"email": person.email, "password": person.password}
        answer = self._run(self._gateways.call(which, "/auth/login", json=body))
        assert answer.status_code == 200, answer.text
        return self._opened(person, answer.json())

    @rule(session=sessions, which=either)
    def refresh(self, session: Session, which: int) -> None:
        self._touched = [session]
        answer = self._run(self._gateways.refresh(which, session.family[-1]))
        assert answer.status_code == (200 if session.is_alive else 401), answer.text
        if session.is_alive:
            assert answer.json()["refresh_token"] not in session.family
            session.received(answer.json())

    @rule(session=sessions)
    def refresh_on_both_at_once(self, session: Session) -> None:
        self._touched = [session]

        async def race() -> list[httpx.Response]:
            calls = (self._gateways.refresh(each, session.family[-1]) for each in [0, 1] * 4)
            return await asyncio.gather(*calls)

        answers = self._run(race())
        assert {each.status_code for each in answers} == {200 if session.is_alive else 401}
        if session.is_alive:
            assert len({each.json()["refresh_token"] for each in answers}) == 1
            for answer in answers:
                session.received(answer.json())

    @rule(session=sessions, which=either)
    def repeat_within_the_grace(self, session: Session, which: int) -> None:
        if len(session.family) < 2:
            return
        self._touched = [session]
        self._run(self._gateways.used_ago(session.family[-2], "5 seconds"))
        answer = self._run(self._gateways.refresh(which, session.family[-2]))
        assert answer.status_code == (200 if session.is_alive else 401), answer.text
        if session.is_alive:
            assert answer.json()["refresh_token"] == session.family[-1]
            session.received(answer.json())

    @rule(session=sessions, which=either, back=st.integers(1, 3))
    def steal_an_old_one(self, session: Session, which: int, back: int) -> None:
        if len(session.family) <= back:
            return
        stolen = session.family[-1 - back]
        if back == 1:  # the direct parent, but too late
            self._run(self._gateways.used_ago(stolen, "11 seconds"))
        self._expect_refused(session, self._run(self._gateways.refresh(which, stolen)))
        session.is_alive = False

    def _expect_refused(self, session: Session, answer: httpx.Response) -> None:
        self._touched = [session]
        assert answer.status_code == 401, answer.text
        assert answer.json()["detail"] == "The refresh token is not valid. Sign in again."

    @rule(session=sessions, which=either, back=st.integers(0, 3))
    def present_an_access_token_as_a_refresh_token(
        self, session: Session, which: int, back: int
    ) -> None:
        token = session.access[-1 - back % len(session.access)][0]
        answer = self._run(self._gateways.refresh(which, token[:256]))
        self._expect_refused(session, answer)

    @rule(session=sessions, which=either)
    def present_a_refresh_token_as_an_access_token(self, session: Session, which: int) -> None:
        call = self._gateways.call(which, "/auth/me", token=session.family[-1])
        assert self._run(call).status_code == 401

    @rule(session=sessions, which=either)
    def sign_out(self, session: Session, which: int) -> None:
        self._touched = [session]
        if session.working is not None:
            call = self._gateways.call(which, "/auth/logout", json={}, token=session.working)
            assert self._run(call).status_code == 204
            session.is_alive = False

    @rule(session=sessions, which=either, other=st.integers(0, 5))
    def end_another_session(self, session: Session, which: int, other: int) -> None:
        target = session.person.sessions[other % len(session.person.sessions)]
        self._touched = [session, target]
        if session.working is not None:
            path = f"/auth/sessions/{target.id}"
            call = self._gateways.call(which, path, method="DELETE", token=session.working)
            assert self._run(call).status_code == (204 if target.is_alive else 404)
            target.is_alive = False

    @rule(session=sessions, which=either)
    def change_the_password(self, session: Session, which: int) -> None:
        person = session.person
        self._touched = person.sessions
        if session.working is None:
            return
        new = secrets.token_hex(10)
        body = {"current_password": person.password, "new_password": new}
        call = self._gateways.call(which, "/auth/password", json=body, token=session.working)
        assert self._run(call).status_code == 204
        person.password, person.version = new, person.version + 1
        for each in person.sessions:
            each.is_alive = each.is_alive and each is session

    @invariant()
    def access_tokens_work_where_they_must_and_nowhere_else(self) -> None:
        for session in self._touched:
            for token, version in session.access[-4:]:
                must_work = session.is_alive and version == session.person.version
                for which in (0, 1):
                    answer = self._run(self._gateways.call(which, "/auth/me", token=token))
                    assert answer.status_code == (200 if must_work else 401), answer.text
        self._touched = []

    def teardown(self) -> None:
        several = self._run(
            self._gateways.database.fetch(
                "SELECT session_id FROM refresh_tokens WHERE used_at IS NULL"
                " GROUP BY session_id HAVING count(*) > 1"
            )
        )
        assert several == [], "a family has several live tokens"


def test_sessions_do_what_their_model_does(
    module_database_urls: dict[str, str], redis_url: str, tmp_path: Path
) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        apps = [
            runner.run(
                stack.enter_async_context(
                    gateway(module_database_urls["gateway"], redis_url, tmp_path)
                )
            ).app
            for _ in range(2)
        ]
        database = runner.run(asyncpg.connect(module_database_urls["admin"]))
        processes = Processes(database, apps)
        try:
            run_state_machine_as_test(lambda: SessionMachine(processes, runner), settings=_BOUNDED)
        finally:
            runner.run(database.close())
            runner.run(stack.aclose())
