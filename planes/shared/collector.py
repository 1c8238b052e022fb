"""When Python's garbage collector runs in a server."""

import gc

_NEW_OBJECTS = 10_000
_YOUNG_ROUNDS = 50
_OLD_ROUNDS = 100


def settle_collector() -> None:
    """Leave alone what was loaded so far, and look at what comes later less often.

    For a server that is ready to serve. Python's own thresholds (700, 10, 10) suit a program of few
    objects: 64 requests under way use hundreds each, and the collector walks over them again and
    again, and over all caches. It only finds cycles; everything else is freed at once. Measured in
    docs/performance.md, "What the collector took".
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, _YOUNG_ROUNDS, _OLD_ROUNDS)
