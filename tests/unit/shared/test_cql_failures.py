"""What the CQL driver says when something is wrong, and what becomes of it."""

from typing import Any

import pytest
from cassandra import Unauthorized
from cassandra.cluster import NoHostAvailable
from structlog.testing import capture_logs

from planes.shared.errors import Unavailable
from planes.shared.stores.cql_bridge import CqlBridge
from planes.shared.stores.cql_cluster import connected


class NoCluster:
    """Cannot be reached; the driver names hosts in two ways."""

    def __init__(self, errors: object) -> None:
        self._errors = errors

    def connect(self) -> None:
        raise NoHostAvailable("Unable to connect to any servers", self._errors)


class Refusing:
    """A session and the future of its statement, which may not be run."""

    def execute_async(self, *_: object, **__: object) -> "Refusing":
        return self

    def add_callbacks(self, _: Any, errback: Any, *, errback_args: Any, **__: object) -> None:
        errback(Unauthorized("User gateway has no MODIFY permission"), *errback_args)


@pytest.mark.parametrize("errors", [["127.0.0.1"], {"127.0.0.1:9042": OSError("refused")}])
def test_a_cluster_that_is_away_is_away_however_the_driver_says_it(errors: object) -> None:
    with pytest.raises(Unavailable, match="Unable to connect"):
        connected(NoCluster(errors), "datacenter1")  # type: ignore[arg-type]


async def test_what_the_cluster_refuses_is_logged_once_in_a_while() -> None:
    bridge = CqlBridge(max_in_flight=1)
    with capture_logs() as logged:
        for _ in range(3):
            with pytest.raises(Unavailable):
                await bridge.execute(Refusing(), None, profile="write", deadline_s=9)  # type: ignore[arg-type]
    assert [each["kind"] for each in logged] == ["Unauthorized"]
    assert "no MODIFY permission" in logged[0]["reason"]
