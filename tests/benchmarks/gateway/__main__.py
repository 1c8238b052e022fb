"""`python -m tests.benchmarks.gateway [STEP ...]`: run the ladder and print it."""

import argparse
import sys

from tests.benchmarks.gateway.ladder import measure, shown
from tests.benchmarks.pinning import Cores
from tests.benchmarks.records import Conditions


def main() -> None:
    """Read which steps to run, run them, and print what they cost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("steps", nargs="*")
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    conditions = Conditions(Cores.of_this_process(), chosen.repeats)
    found = measure(conditions, seconds=chosen.seconds, only=chosen.steps)
    sys.stdout.write(shown(found) + "\n")


if __name__ == "__main__":
    main()
