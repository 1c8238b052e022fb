"""Looks at given servers before a platform starts on them; a process, so that no driver stays.

It ends with 0 where all of them serve, and with 1 after it has said what is wrong with which.
"""

import os
import time
from collections.abc import Iterable

from planes.shared.telemetry import configure_logging
from services.embedded.diagnosis import Finding
from services.embedded.home import locate
from services.embedded.installation import Installation
from services.embedded.server_diagnosis import diagnose_servers

_WAIT_S = 60.0
_LOOK_S = 1.0


def main() -> int:
    """Look, for a minute while one of them is away: they may be starting beside us."""
    configure_logging("server-check")  # to standard error: the report alone is for the supervisor
    home = locate()
    installation = Installation(
        home=home,
        ports={},
        secrets=home.secrets(),
        environment=os.environ,
        host="127.0.0.1",
        tls=False,
        mode="server",
    )
    end = time.monotonic() + _WAIT_S
    while True:
        found = list(diagnose_servers(installation, is_starting=True))
        bad = [finding for finding in found if finding.verdict == "bad"]
        if not bad or any(not finding.is_away for finding in bad) or time.monotonic() > end:
            break
        time.sleep(_LOOK_S)
    print(_report(bad))  # noqa: T201 (to the supervisor)
    return 1 if bad else 0


def _report(findings: Iterable[Finding]) -> str:
    return "\n".join(f"{each.subject}: {each.found}. {each.remedy}" for each in findings)


if __name__ == "__main__":
    raise SystemExit(main())
