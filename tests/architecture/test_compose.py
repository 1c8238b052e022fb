"""docker-compose.yml: what can be known of it where there is no Docker."""

import json
import re
import tomllib
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click import Command
from dagster._cli.api import grpc_command
from dagster._daemon.cli import run_command
from dagster_webserver.cli import dagster_webserver
from pydantic import SecretStr

from planes.data.settings import DataSettings
from planes.serving.settings import ServingSettings
from planes.shared.settings import SharedSettings
from planes.shared.stores.chat_log_settings import ChatLogSettings
from planes.shared.stores.chunk_settings import ChunkStoreSettings
from services.embedded.given_servers import GivenServers, GivenServerSettings
from services.gateway.settings import GatewaySettings
from tests.architecture.compose import (
    COMPOSE,
    FILES,
    ROOT,
    SECRET,
    SERVICES,
    environment,
    is_one_shot,
    module,
)

_SCHEMA = json.loads((Path(__file__).parent / "compose_spec/compose-spec.json").read_text("utf-8"))
_KEEP_THEIR_ACCOUNT = {"mongodb", "scylla"}  # and write beside their volumes
_WITHOUT_DIGEST = {"scylla"}  # none is known to us; the tag names a release
_WITHOUT_CHECK = {"otel-collector"}  # its image holds one program, which has no such command
_SETTINGS: dict[str, tuple[type[SharedSettings], ...]] = {
    "gateway": (GatewaySettings,),
    "serving": (ServingSettings,),
    "dagster-code": (DataSettings,),
    "migrate": (GivenServerSettings, ChatLogSettings, ChunkStoreSettings),
}
_DAGSTERS = {"DAGSTER_DATABASE_URL_FILE"}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compose") / "secrets"
    module(FILES / "make_secrets.py").make(folder)
    return folder


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return request.param, SERVICES[request.param]


@pytest.mark.parametrize("file", ["docker-compose.yml", "infra/compose/grafana.yml"])
def test_the_files_follow_the_compose_specification(file: str) -> None:
    content = yaml.safe_load((ROOT / file).read_text("utf-8"))
    jsonschema.Draft202012Validator(_SCHEMA).validate(content)


def test_every_variable_of_the_compose_file_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    variables = re.findall(r"(?<!\$)\$(?!\$)\{?([^}\s\"]*)", text)
    assert variables
    assert all(":-" in variable for variable in variables)


def test_a_service_can_do_little_to_its_machine(service: tuple[str, dict[str, Any]]) -> None:
    name, given = service
    assert given["cap_drop"] == ["ALL"]
    assert given["security_opt"] == ["no-new-privileges:true"]
    assert set(given["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert not {"privileged", "devices", "pid", "ipc"} & given.keys()
    if name in _KEEP_THEIR_ACCOUNT:
        assert "SYS_ADMIN" not in given.get("cap_add", ())
    else:
        assert given["read_only"] is True
        assert "cap_add" not in given
        assert int(given["user"].split(":")[0]) > 0


def test_a_service_is_one_known_release(service: tuple[str, dict[str, Any]]) -> None:
    name, given = service
    if "build" in given:
        version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
        assert given["image"] == f"polyplane-{given['build']['target']}:{version}"
    elif name in _WITHOUT_DIGEST:
        assert re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+", given["image"])
    else:
        assert re.fullmatch(r"[a-z/-]+:v?\d+[\w.-]*@sha256:[0-9a-f]{64}", given["image"])


def test_whoever_needs_a_service_waits_for_its_health(service: tuple[str, dict[str, Any]]) -> None:
    name, given = service
    needs_check = not is_one_shot(given) and name not in _WITHOUT_CHECK
    assert ("healthcheck" in given) is needs_check
    for needed, how in given.get("depends_on", {}).items():
        done = "service_completed_successfully" if is_one_shot(SERVICES[needed]) else None
        assert how == {"condition": done or "service_healthy"}


def test_nothing_is_published_but_the_gateway_on_loopback() -> None:
    published = {name: given["ports"] for name, given in SERVICES.items() if "ports" in given}
    assert published == {"gateway": ["${POLYPLANE_BIND:-127.0.0.1}:${POLYPLANE_PORT:-8000}:8000"]}


_PLANES = {
    "gateway": "gateway",
    "serving": "serving",
    **dict.fromkeys(("dagster-code", "dagster-web", "dagster-daemon"), "data"),
}


def members(network: str) -> set[str]:
    return {name for name, given in SERVICES.items() if network in given.get("networks", ())}


def test_planes_share_no_network_but_for_what_the_gateway_asks_them() -> None:
    shared = {
        (network, frozenset(planes))
        for network in COMPOSE["networks"]
        if len(planes := {_PLANES[name] for name in members(network) & _PLANES.keys()}) > 1
    }
    assert shared == {
        ("serving", frozenset({"gateway", "serving"})),
        ("observability", frozenset({"gateway", "serving"})),
        ("dagster", frozenset({"gateway", "data"})),
    }
    assert members("serving") == {"gateway", "serving"}
    assert members("dagster") == {"gateway", "dagster-web"}


def test_stores_have_no_way_out_and_are_reached_by_those_who_use_them() -> None:
    networks = COMPOSE["networks"]
    outer = {name for name, given in networks.items() if not (given or {}).get("internal")}
    assert {name: members(name) for name in outer} == {
        "edge": {"gateway"},  # the one by which it goes out, so that its proxy has one address
        "models": {"serving"},
        "data": {"dagster-code", "dagster-web", "dagster-daemon"},
    }
    stores = {"postgres", "mongodb", "scylla", "redis", "s3"}
    reached = {name: members(f"stores-{name}") & stores for name in set(_PLANES.values())}
    assert reached == {
        "gateway": {"postgres", "scylla", "redis", "s3"},
        "serving": {"postgres", "mongodb", "redis"},
        "data": {"postgres", "mongodb", "redis", "s3"},
    }
    observers = {"prometheus", "grafana", "otel-collector"}
    assert not any(members(name) & observers for name in networks if name != "observability")


def test_the_proxy_that_the_documentation_names_is_this_machine() -> None:
    (edge,) = COMPOSE["networks"]["edge"]["ipam"]["config"]
    named = f"GATEWAY_TRUSTED_PROXIES={edge['gateway']}"
    assert named in (ROOT / "docs" / "compose.md").read_text("utf-8")
    assert ip_address(edge["gateway"]) in ip_network(edge["subnet"])


def test_a_service_gets_the_secrets_that_it_reads(
    service: tuple[str, dict[str, Any]], secrets: Path
) -> None:
    _, given = service
    text = json.dumps({key: given[key] for key in given if key not in {"secrets", "volumes"}})
    for volume in given.get("volumes", ()):
        source = ROOT / volume.split(":")[0]
        if source.is_file():
            text += source.read_text("utf-8")
    read = set(SECRET.findall(text)) | set(re.findall(r'secret\("(\w+)"\)', text))
    assert set(given.get("secrets", ())) == read
    assert {path.name for path in secrets.iterdir()} >= read


def test_secrets_lie_where_git_does_not_look_and_every_one_has_a_file(secrets: Path) -> None:
    for name, given in COMPOSE["secrets"].items():
        assert given == {"file": f"./infra/compose/secrets/{name}"}
        assert (secrets / name).is_file()
    assert "infra/compose/secrets/" in (ROOT / ".gitignore").read_text("utf-8").splitlines()


@pytest.mark.parametrize("name", _SETTINGS)
def test_a_service_of_ours_is_told_what_its_settings_know(name: str, secrets: Path) -> None:
    variables = {
        str(
            field.validation_alias or (kind.model_config.get("env_prefix", "") + field_name).upper()
        )
        for kind in _SETTINGS[name]
        for field_name, field in kind.model_fields.items()
    }
    given = SERVICES[name]["environment"]
    unknown = {variable for variable in given if variable.removesuffix("_FILE") not in variables}
    assert unknown <= _DAGSTERS
    for kind in _SETTINGS[name]:
        kind.of(environment(name, secrets))  # nothing is missing, nothing is wrong


@pytest.mark.parametrize("name", _SETTINGS)
def test_no_environment_holds_a_secret(name: str, secrets: Path) -> None:
    for kind in _SETTINGS[name]:
        settings = kind.of(environment(name, secrets))
        for field_name in kind.model_fields:
            value = getattr(settings, field_name)
            if isinstance(value, SecretStr):
                given = SERVICES[name]["environment"].values()
                assert value.get_secret_value() not in given


def test_every_file_that_is_mounted_is_there() -> None:
    for given in SERVICES.values():
        for volume in given.get("volumes", ()):
            source, _, _ = volume.partition(":")
            assert (ROOT / source).exists() if source[0] == "." else source in COMPOSE["volumes"]


def test_a_single_scylla_syncs_what_it_acknowledges() -> None:
    assert "--commitlog-sync batch" in SERVICES["scylla"]["command"][0]


def test_chunks_are_in_mongodb_and_messages_in_scylla_for_whoever_asks(secrets: Path) -> None:
    for name, kind in (
        ("serving", ServingSettings),
        ("dagster-code", DataSettings),
        ("migrate", ChunkStoreSettings),
    ):
        assert kind.of(environment(name, secrets)).chunk_store == "mongo"  # type: ignore[attr-defined]
    for name in ("gateway", "migrate"):
        assert ChatLogSettings.of(environment(name, secrets)).cql_hosts == ("scylla",)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("dagster-code", grpc_command),
        ("dagster-web", dagster_webserver),
        ("dagster-daemon", run_command),
    ],
)
def test_dagster_knows_the_options_that_it_is_started_with(name: str, command: Command) -> None:
    given = set(re.findall(r" (--[a-z-]+)", SERVICES[name]["command"]))
    known = {option for parameter in command.params for option in parameter.opts}
    assert given
    assert given <= known


def test_the_services_passwords_are_those_that_they_log_in_with(secrets: Path) -> None:
    migrated = GivenServers.of(environment("migrate", secrets), {}).passwords()
    for name, role in (("gateway", "gateway"), ("serving", "serving"), ("dagster-code", "data")):
        url = _SETTINGS[name][0].of(environment(name, secrets)).database_url  # type: ignore[attr-defined]
        password = migrated[f"polyplane_{role}"]
        assert f"//polyplane_{role}:{password}@postgres:5432/" in url.get_secret_value()
