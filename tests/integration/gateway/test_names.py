"""Names that people see: any script, and nothing that deceives the eye."""

import pytest

from tests.integration.gateway.conftest import PASSWORD, Person

pytestmark = pytest.mark.integration


async def refusals(person: Person, name: str) -> list[tuple[int, str]]:
    """Return the status and the first flaw of each way to give something this name."""
    account = {"email": "grace@example.com", "password": PASSWORD}
    key = {"name": name, "scopes": ["search"]}
    http = person.http
    answers = [
        await http.post("/auth/register", json=account | {"display_name": name}),
        await http.post("/auth/register", json=account | {"tenant_name": name}),
        await http.patch("/tenant", json={"name": name}),
        await http.post("/auth/api-keys", json=key),
    ]
    return [(each.status_code, each.json()["errors"][0]["detail"]) for each in answers]


@pytest.mark.parametrize(
    "name",
    [
        "Acme\u202egpj.exe",  # turns the rest around
        "\u2066Acme\u2069",
        "Ac\u200bme",  # no width
        "Acme\u200d",
        "\ufeffAcme",
        "Acme\u2060",
        "Ac\u00adme",
        "Acme\u2028Globex",
        "Acme\U000e0041",  # a tag
        "Acme\x07",
    ],
)
async def test_characters_that_nobody_sees_are_refused_in_every_name(
    name: str, person: Person
) -> None:
    for status, flaw in await refusals(person, name):
        assert status == 422
        assert "characters that nobody sees" in flaw


@pytest.mark.parametrize(
    "name",
    ["Zoë O'Neil", "李小龍", "שרה כהן", "محمد علي", "अनिल शर्मा", "山田\u3000太郎", "Café 🎉"],
)
async def test_names_of_every_script_are_taken(name: str, person: Person) -> None:
    renamed = await person.http.patch("/tenant", json={"name": name})
    assert renamed.status_code == 200, renamed.text
    assert (await person.http.get("/tenant")).json()["name"] == name
