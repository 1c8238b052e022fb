"""What a given Redis is, and what it lacks for the platform."""

from redis.exceptions import AuthenticationError, NoPermissionError

from planes.shared.stores.redis_address import RedisAddress, RedisSettings
from planes.shared.stores.redis_clients import REDIS_ERRORS, info_of_masters, redis_client
from planes.shared.stores.redis_memory import RedisUnfit, require_no_eviction
from services.embedded.diagnosis import Finding

_SUBJECT = "Redis"
_LEAST = (6, 2)


async def diagnose_redis(settings: RedisSettings, variable: str, *, keeps_limits: bool) -> Finding:
    """Look at the server, sentinels or cluster.

    Args:
        settings: With its address.
        variable: That names it.
        keeps_limits: It is the gateway's, with sessions and limits; else one of caches alone.
    """
    assert settings.redis_url is not None  # noqa: S101 (asked for only where it is set)
    url = settings.redis_url.get_secret_value()
    host, port = RedisAddress.parse(url).nodes[0]
    redis = redis_client(url, settings.redis_login, max_connections=2)
    try:
        if not keeps_limits:
            await redis.exists("cache:")  # all that a plane's user may be allowed
            return Finding(_SUBJECT, "good", f"{variable} at {host}:{port}")
        await require_no_eviction(redis)
        version = str((await info_of_masters(redis, "server"))[0]["redis_version"])
    except RedisUnfit as error:
        return Finding(_SUBJECT, "bad", "it cannot keep sessions and limits", str(error))
    except (AuthenticationError, NoPermissionError) as error:
        remedy = f"Correct user and password in {variable}, or the user's rights: docs/stores.md."
        found = f"{host}:{port} does not let us in: {error}"
        return Finding(_SUBJECT, "bad", found, remedy)
    except REDIS_ERRORS as error:
        found = f"{host}:{port} does not answer: {error or type(error).__name__}"
        return Finding(_SUBJECT, "bad", found, f"Start it, or correct {variable}.", is_away=True)
    finally:
        await redis.aclose()
    if tuple(int(part) for part in version.split(".")[:2]) < _LEAST:
        found = f"it is Redis {version}, which is too old"
        return Finding(_SUBJECT, "bad", found, "Use Redis 6.2 or newer.")
    return Finding(_SUBJECT, "good", f"{version} at {host}:{port}")
