"""How many replicas a deployment has, and what becomes of requests that it has no room for."""

from typing import Any

_UPSCALE_DELAY_S = 5.0
_DOWNSCALE_DELAY_S = 300.0
_LONGEST_ANSWER_S = 120.0


def scaling(
    max_replicas: int, *, target: int, most: int, queued: int, least: int = 2
) -> dict[str, Any]:
    """Return the options of a deployment.

    Args:
        max_replicas: With more than one, replicas come and go with the load.
        target: Requests of a replica at a time that call for no further one.
        most: Requests that a replica works at; further ones wait for a replica.
        queued: Requests that wait at one caller; further ones are refused at once.
        least: Replicas that are always there, where so many are allowed: while one of two is
            replaced, the other one answers.
    """
    options: dict[str, Any] = {
        "max_ongoing_requests": most,
        "max_queued_requests": queued,
        "health_check_period_s": 1,
        "health_check_timeout_s": 10,
        # One that is taken away takes no more, and its answers end; where all stop, `drain` ends
        # them earlier.
        "graceful_shutdown_timeout_s": _LONGEST_ANSWER_S,
        "graceful_shutdown_wait_loop_s": 0.5,
    }
    if max_replicas == 1:
        return options | {"num_replicas": 1}
    autoscaling = {
        "min_replicas": min(least, max_replicas),
        "max_replicas": max_replicas,
        "target_ongoing_requests": target,
        "upscale_delay_s": _UPSCALE_DELAY_S,
        "downscale_delay_s": _DOWNSCALE_DELAY_S,
    }
    return options | {"autoscaling_config": autoscaling}
