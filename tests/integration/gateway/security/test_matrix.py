"""Every operation of the API: without credentials, with each role, and with others' ids."""

from collections.abc import Iterator, Mapping
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from fastapi.routing import RouteContext

from planes.shared.domain import Role
from services.gateway.auth.models import ApiScope
from services.gateway.rights import operations, permission_of
from tests.integration.gateway.security.calls import (
    call,
    error_type,
    kinds_of,
    rows,
    seen,
    spelled,
    without_row,
)
from tests.integration.gateway.security.conftest import Household, World
from tests.integration.gateway.security.rights import KINDS, PERSONAL, TABLE
from tests.integration.gateway.security.things import make_things

pytestmark = pytest.mark.asyncio(loop_scope="module")
GUARDED = list(rows())
WITH_IDS = [operation for operation in TABLE if kinds_of(operation)]
_ALL_KINDS = {"tenant", *KINDS.values()}.union(*map(kinds_of, TABLE))
_OWN = {"audit_log", "memberships", "sessions"}  # what a sign-in of the colleague's own changes


class Absent(dict[str, str]):
    """Ids of things that nobody has."""

    def __init__(self) -> None:
        super().__init__({kind: str(uuid4()) for kind in _ALL_KINDS})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def victim(world: World) -> Household:
    """A tenant that owns one thing of each kind; nobody in these tests may notice it."""
    household = await world.household()
    await make_things(world, household)
    return household


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mallory(world: World) -> Household:
    """Another tenant, whose owner tries the victim's ids."""
    return await world.household()


async def test_every_operation_has_its_row_and_every_row_its_operation(world: World) -> None:
    assert without_row(world.app) == set()
    assert TABLE.keys() - spelled(world.app).keys() == set()


async def test_a_new_route_without_a_row_is_found() -> None:
    app = FastAPI()
    app.add_api_route("/api/v1/secrets/{secret_id}", lambda: None, methods=["PUT"])
    assert "PUT /secrets/{secret_id}" in without_row(app)


async def test_the_code_and_the_documentation_ask_for_what_the_table_says(world: World) -> None:
    document = world.app.openapi()["paths"]
    differing = []
    for operation, method, path, route in _routes(world.app):
        expected = TABLE[operation]
        wanted = (expected.role, expected.scope)
        permission = permission_of(route)
        required = (None, None)
        if permission is not None:
            required = (permission.role, "any" if permission.any_key else permission.scope)
        shown = document.get(path, {}).get(method.lower())
        said = (shown.get("x-required-role"), shown.get("x-required-scope")) if shown else wanted
        if not required == said == wanted:
            differing.append((method, path, required, said, wanted))
    assert differing == []


def _routes(app: FastAPI) -> Iterator[tuple[str, str, str, RouteContext]]:
    names = {each: name for name, spellings in spelled(app).items() for each in spellings}
    for method, path, route in operations(app.routes):
        if f"{method} {path}" in names:
            yield names[f"{method} {path}"], method, path, route


@pytest.mark.parametrize("operation", GUARDED)
async def test_nobody_gets_in_without_credentials(world: World, operation: str) -> None:
    async with world.client() as client:
        for credentials in ({}, {"authorization": "Basic eDp4"}, {"authorization": "Bearer a.b.c"}):
            client.headers.update(credentials)
            for spelling in spelled(world.app)[operation]:
                answer = await call(client, spelling, TABLE[operation], Absent())
                assert answer.status_code == 401, (spelling, answer.text)
                assert answer.headers["www-authenticate"].startswith("Bearer")
                if not spelling.startswith("HEAD "):
                    assert error_type(answer) in {"unauthenticated", "authentication_error"}


@pytest.mark.parametrize("operation", list(rows(public=True)))
async def test_public_operations_ask_for_no_credentials(world: World, operation: str) -> None:
    async with world.client() as client:
        for spelling in spelled(world.app)[operation]:
            answer = await call(client, spelling, TABLE[operation], Absent())
            assert answer.status_code not in {403, 405, 500}, (spelling, answer.text)
            if answer.status_code == 401:  # what was sent is no proof of anything
                assert spelling.partition("/auth/")[2] in {"login", "refresh"}, answer.text


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("operation", GUARDED)
async def test_a_role_may_do_what_the_table_says(world: World, operation: str, role: Role) -> None:
    lowest = TABLE[operation].role
    assert lowest is not None
    household = await world.household()  # the call may end it
    async with world.client(await world.token(household.members[role])) as client:
        answer = await call(client, operation, TABLE[operation], Absent())
    if role.rank < lowest.rank:
        assert answer.status_code == 403, answer.text
        assert error_type(answer) in {"forbidden", "permission_error"}
    else:
        assert not _is_refusal(answer), (answer.status_code, answer.text)


def _is_refusal(answer: httpx.Response) -> bool:
    """Whether an answer says that the caller may not; a wrong password is another matter."""
    said_by_right = answer.status_code == 403 and "password" not in answer.text
    return said_by_right or answer.status_code in {401, 405, 500}


@pytest.mark.parametrize("operation", WITH_IDS)
async def test_another_tenants_ids_answer_as_absent_ones_and_change_nothing(
    world: World, victim: Household, mallory: Household, operation: str
) -> None:
    before = await world.snapshot(victim.tenant_id)
    for spelling in spelled(world.app)[operation]:
        for kind in kinds_of(operation):
            token = await world.token(mallory.members[Role.OWNER])
            async with world.client(token) as client:
                absent, mine = Absent(), mallory.things
                ids = {**absent, **mine, kind: victim.things[kind]}
                foreign = await call(client, spelling, TABLE[operation], ids)
                _expect_nothing_of(victim, foreign, given=ids)
                token = await world.token(mallory.members[Role.OWNER])
                client.headers["authorization"] = f"Bearer {token}"
                unknown = await call(
                    client, spelling, TABLE[operation], {**absent, **mine, kind: absent[kind]}
                )
            assert seen(foreign) == seen(unknown), (spelling, kind)
    assert changed(before, await world.snapshot(victim.tenant_id)) == set()


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Return the tables whose rows differ."""
    return {table for table in before.keys() | after.keys() if before.get(table) != after[table]}


def _expect_nothing_of(
    victim: Household, answer: httpx.Response, *, given: Mapping[str, str]
) -> None:
    """Expect that an answer holds no id of the victim's but those that were sent."""
    for thing in set(victim.things.values()) - set(given.values()):
        assert thing not in answer.text


@pytest.mark.parametrize("operation", [o for o in WITH_IDS if kinds_of(o) & PERSONAL])
@pytest.mark.parametrize("role", [Role.MEMBER, Role.ADMIN])
async def test_a_colleagues_things_answer_as_absent_ones_and_do_not_change(
    world: World, victim: Household, operation: str, role: Role
) -> None:
    before = await world.snapshot(victim.tenant_id)
    for spelling in spelled(world.app)[operation]:
        async with world.client(await world.token(victim.members[role])) as client:
            absent = Absent()
            ids = {**absent, **{kind: victim.things[kind] for kind in PERSONAL}}
            theirs = await call(client, spelling, TABLE[operation], ids)
            unknown = await call(client, spelling, TABLE[operation], absent)
        assert seen(theirs) == seen(unknown), spelling
        assert theirs.status_code == 404, (spelling, theirs.text)
    assert changed(before, await world.snapshot(victim.tenant_id)) <= _OWN


@pytest.mark.parametrize("operation", GUARDED)
async def test_an_api_key_may_do_what_its_scopes_say(world: World, operation: str) -> None:
    wanted = TABLE[operation].scope
    household = await world.household()
    every = list(ApiScope)
    granted = {ApiScope.SEARCH} if wanted == "any" else {wanted} & set(every)
    for scopes in (granted, set(every) - {wanted}):
        if not scopes:
            continue
        token = await world.token(household.members[Role.OWNER])
        async with world.client(token) as client:
            made = await client.post(
                "/auth/api-keys", json={"name": "test", "scopes": sorted(scopes)}
            )
            assert made.status_code == 201, made.text
            client.headers["authorization"] = f"Bearer {made.json()['key']}"
            for spelling in spelled(world.app)[operation]:
                answer = await call(client, spelling, TABLE[operation], Absent())
                if wanted == "any" or wanted in scopes:
                    assert not _is_refusal(answer), (spelling, answer.text)
                else:
                    assert answer.status_code == 403, (spelling, scopes, answer.text)
                    if not spelling.startswith("HEAD "):
                        assert error_type(answer) in {"forbidden", "permission_error"}
