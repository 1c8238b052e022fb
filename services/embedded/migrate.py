"""Entry point of the part `migrations`: databases, roles, schema; then it ends."""

from services.embedded.home import Home, locate
from services.embedded.installation import running_installation
from services.embedded.postgres import DAGSTER_ROLE, SERVICE_ROLES
from services.embedded.schema import bootstrap


class NotRunning(RuntimeError):
    """There is no running database to migrate."""


def migrate(home: Home) -> None:
    """Bring the running database of a home to this version.

    Raises:
        NotRunning: Nothing runs in this home.
    """
    installation = running_installation(home)
    if installation is None:
        raise NotRunning("Polyplane is not running: `polyplane up` starts it and migrates.")
    roles = (*SERVICE_ROLES, DAGSTER_ROLE)
    bootstrap(installation.postgres().url, {role: installation.secrets[role] for role in roles})


if __name__ == "__main__":
    migrate(locate())
