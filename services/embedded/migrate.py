"""Entry point of the part `migrations`: databases, roles, schema; then it ends."""

import structlog

from planes.shared.errors import Unavailable
from planes.shared.stores.chat_log_settings import ChatLogSettings, migrate_chat_log
from services.embedded.home import Home, locate
from services.embedded.installation import running_installation
from services.embedded.postgres import DAGSTER_ROLE, SERVICE_ROLES
from services.embedded.schema import bootstrap


class NotRunning(RuntimeError):
    """There is no running database to migrate."""


def migrate(home: Home) -> None:
    """Bring the running database of a home to this version, without the chat log.

    Raises:
        NotRunning: Nothing runs in this home.
    """
    installation = running_installation(home)
    if installation is None:
        raise NotRunning("Polyplane is not running: `polyplane up` starts it and migrates.")
    roles = (*SERVICE_ROLES, DAGSTER_ROLE)
    bootstrap(installation.postgres().url, {role: installation.secrets[role] for role in roles})


def migrate_at_start(home: Home) -> None:
    """Migrate both; a chat log that is away now does not keep the platform from starting.

    Raises:
        NotRunning: Nothing runs in this home.
        CqlRefused: The chat log's cluster cannot serve.
    """
    migrate(home)
    try:
        migrate_chat_log(ChatLogSettings.read())
    except Unavailable as error:
        structlog.get_logger(__name__).warning("chat log away", reason=error.detail)


if __name__ == "__main__":
    migrate_at_start(locate())
