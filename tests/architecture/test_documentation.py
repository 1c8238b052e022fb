"""The documentation covers what the code has."""

import re
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from pydantic_settings import BaseSettings

from planes.data.settings import DataSettings
from planes.serving.settings import ServingSettings
from planes.shared.stores import migrations
from planes.shared.stores.postgres import SCHEMA_REVISION
from services.embedded.given_servers import GivenServerSettings
from services.embedded.settings import EmbeddedSettings
from services.gateway.settings import GatewaySettings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "settings",
    [GatewaySettings, ServingSettings, DataSettings, EmbeddedSettings, GivenServerSettings],
)
def test_every_setting_is_documented(settings: type[BaseSettings]) -> None:
    documented = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", (ROOT / "docs/settings.md").read_text()))
    prefix = settings.model_config.get("env_prefix", "")
    variables = {
        str(field.validation_alias or (prefix + name).upper())
        for name, field in settings.model_fields.items()
    }
    assert variables <= documented


def test_every_relative_link_of_the_documentation_leads_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "infra").rglob("*.md")]
    for page in pages:
        prose = re.sub(r"`[^`\n]+`", "", page.read_text("utf-8"))
        for target in re.findall(r"\]\(([^)#:]+)\)", prose):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_services_need_the_newest_schema() -> None:
    folder = Path(migrations.__file__).parent
    config = Config()
    config.set_main_option("script_location", str(folder))
    assert ScriptDirectory.from_config(config).get_current_head() == SCHEMA_REVISION


def test_every_module_of_the_product_says_what_it_is_for() -> None:
    for path in [*(ROOT / "services").rglob("*.py"), *(ROOT / "planes").rglob("*.py")]:
        text = path.read_text("utf-8")
        assert not text or text.startswith(('"""', 'r"""')), f"{path} has no docstring"
