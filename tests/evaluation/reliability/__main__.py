r"""Measure what docs/reliability.md states, on an embedded platform that runs on this machine.

    python -m tests.servers.language_model 9000 &
    SERVING_OPENAI_BASE_URL=http://127.0.0.1:9000/v1 SERVING_OPENAI_MODEL=words \
        polyplane up --gateways 2
    python -m tests.evaluation.reliability limits ~/.polyplane

Nobody else may use it meanwhile: limits of plans are changed and parts are killed.
"""

import argparse
import asyncio
from pathlib import Path

from tests.evaluation.reliability.ending import kill, sigterm
from tests.evaluation.reliability.exact import limits, overload, quota, refresh
from tests.evaluation.reliability.faults import faults
from tests.evaluation.reliability.revocation import revocation
from tests.evaluation.reliability.target import Target, machine

MEASUREMENTS = {
    each.__name__: each
    for each in (limits, quota, overload, refresh, revocation, sigterm, kill, faults)
}


def main() -> None:
    """Run one measurement and print its rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.evaluation.reliability")
    parser.add_argument("measurement", choices=MEASUREMENTS)
    parser.add_argument("home", type=Path, help="the platform's home")
    arguments = parser.parse_args()
    print(f"({machine()})")
    asyncio.run(_measure(arguments.measurement, Target.at(arguments.home)))


async def _measure(name: str, target: Target) -> None:
    await target.all_ready()
    await MEASUREMENTS[name](target)


if __name__ == "__main__":
    main()
