"""The scripted serving plane as a process of its own: `python -m tests.servers.plane PORT`."""

import sys

import uvicorn

from tests.integration.gateway.plane import FakePlane

WORDS = tuple(f" word{number}" for number in range(20))


def main(port: int) -> None:
    """Serve answers of twenty words that take half a second."""
    plane = FakePlane(words=list(WORDS), pause_s=0.025)
    uvicorn.run(plane.app(), host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main(int(sys.argv[1]))
