"""`python -m planes.serving.health_check`: exits with 0 where the plane on this machine is well."""

import http.client
import sys

from planes.serving.settings import ServingSettings
from planes.shared.wire import WIRE_HEADER, WIRE_VERSION, ServingTokens

_DEADLINE_S = 5.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is asked, not bound


def is_well(settings: ServingSettings) -> bool:
    """Ask the plane how it is, as the gateway does."""
    token = ServingTokens(settings.token_secret.get_secret_value()).mint_for_health()
    host = _EVERYWHERE.get(settings.host, settings.host)
    connection = http.client.HTTPConnection(host, settings.port, timeout=_DEADLINE_S)
    headers = {"authorization": f"Bearer {token}", WIRE_HEADER: WIRE_VERSION}
    try:
        connection.request("GET", "/v1/health", headers=headers)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_well(ServingSettings.read()) else "The serving plane is not well.")
