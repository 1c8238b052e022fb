"""What the kernel of this machine lets a parser's child give up; `polyplane doctor` tells it."""

import json
import os
import subprocess
import sys
from dataclasses import asdict

from planes.data.pipeline.confine import Confinement, SystemCalls, give_up_rights

_TRIAL = (sys.executable, "-m", "planes.data.pipeline.confinement")
_DEADLINE_S = 30


def confinement() -> Confinement:
    """Try it in a process of its own.

    Raises:
        OSError: No process could be started, or it could not give up a right that it must.
    """
    path = os.pathsep.join(entry or os.curdir for entry in sys.path)
    ended = subprocess.run(  # noqa: S603 - our own program
        _TRIAL,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        timeout=_DEADLINE_S,
        check=False,
    )
    if ended.returncode != 0:
        raise OSError(f"the trial ended with status {ended.returncode}")
    return Confinement(**json.loads(ended.stdout))


def main() -> None:
    """Give up what can be given up and write what it was as JSON."""
    given_up = give_up_rights(SystemCalls(), kept=(0, 1, 2), parent=os.getppid())
    sys.stdout.write(json.dumps(asdict(given_up)))


if __name__ == "__main__":
    main()
