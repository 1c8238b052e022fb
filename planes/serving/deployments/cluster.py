"""A Ray of one node inside this process: its processes die with it."""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray
import structlog
from ray import serve
from ray._private.node import Node
from ray._private.parameter import RayParams
from ray.exceptions import RayError
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve.exceptions import RayServeException

_CPUS = 2
_POLL_S = 0.02
_APPLICATION = "serving"
_DRAIN_MARGIN_S = 2.0
_LOGGING = {"encoding": "JSON", "log_level": "WARNING", "enable_access_log": False}
_log = structlog.get_logger(__name__)


class LocalCluster:
    """A head node without the parts that one machine has no use for.

    `ray.init()` would also start an autoscaler, a dashboard and a log monitor: 190 MB and 4 s of
    CPU time at every start. It has no switch for them, so the node is made as `ray.init()` makes
    it, of Ray's own parts; the version of Ray is pinned.
    """

    def __init__(self, folder: Path, *, object_store_bytes: int, gpus: int = 0) -> None:
        """Store where Ray may write and what it may hand out; `start` starts it."""
        self._folder = folder
        self._object_store_bytes = object_store_bytes
        self._gpus = gpus
        self._node: Any = None

    def start(self) -> None:
        """Start Ray's processes. Call it in the main thread: they die with the calling thread."""
        options: dict[str, Any] = {"include_log_monitor": False, "no_monitor": True}
        parameters = RayParams(
            node_ip_address="127.0.0.1",
            num_cpus=_CPUS,
            num_gpus=self._gpus,
            object_store_memory=self._object_store_bytes,
            temp_dir=str(self._folder),
            include_dashboard=False,
            dashboard_agent_listen_port=0,
            **options,
        )
        self._node = _BareNode(parameters, head=True, shutdown_at_exit=False, spawn_reaper=True)

    def connect(self) -> None:
        """Make this process the cluster's driver."""
        ray.init(address=self._node.address, log_to_driver=False, configure_logging=False)

    def run(self, application: Any, *, port: int) -> None:
        """Serve an application on a port of loopback; return once it answers.

        Proxies and replicas start at the same time: `serve.run` needs the controller alone.
        """
        with ThreadPoolExecutor(max_workers=1) as thread:
            starting = thread.submit(_start_serve, port)
            while not starting.done() and not _has_controller():
                time.sleep(_POLL_S)
            if starting.done():
                starting.result()
            _log_through_root("ray.serve")
            serve.run(application, name=_APPLICATION, logging_config=_LOGGING)
            starting.result()

    def dead_processes(self) -> list[str]:
        """Return the names of Ray's processes that have ended by themselves."""
        return [str(name) for name, _ in self._node.dead_processes()]

    def drain(self, within_s: float) -> None:
        """Refuse further questions and let answers under way end, with an error at the latest."""
        try:
            asyncio.run(_drain(within_s))
        except (RayError, RayServeException, TimeoutError) as error:
            _log.warning("answers were cut off", error=repr(error))

    def stop(self) -> None:
        """Disconnect and end Ray's processes at once."""
        ray.shutdown()
        if self._node is not None:
            self._node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)


async def _drain(within_s: float) -> None:
    handle = serve.get_app_handle(_APPLICATION)
    async with asyncio.timeout(within_s + _DRAIN_MARGIN_S):
        await handle.broadcast("drain", within_s).results_async()


def _start_serve(port: int) -> None:
    serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config=_LOGGING)


def _log_through_root(name: str) -> None:
    """Let a library's lines have the format that this process has chosen."""
    logger = logging.getLogger(name)
    logger.handlers.clear()
    logger.propagate = True


def _has_controller() -> bool:
    try:
        ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    except ValueError:
        return False
    return True


class _BareNode(Node):
    def start_api_server(self, **_: object) -> None:
        """Start no dashboard."""
        self._webui_url = ""
