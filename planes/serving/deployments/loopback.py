"""Keeps a replica's own gRPC server, which unpickles what it is sent, on loopback.

Serve binds it to all interfaces and has no setting for that; the version of Ray is pinned.
"""

import os
from typing import Any

from ray._common.tls_utils import add_port_to_grpc_server
from ray.serve._private import replica

from planes.serving.ray_environment import RUN_VARIABLE

_EVERYWHERE = "[::]:0"
_NAME = "add_port_to_grpc_server"


def listen_on_loopback() -> None:
    """Let the replica of this process listen on 127.0.0.1; call it in a deployment's constructor.

    Serve starts the server after the constructor has returned. Calling it twice changes nothing.

    Raises:
        RuntimeError: This Ray starts the server in another way.
    """
    if getattr(replica, _NAME, None) is _add_loopback_port:
        return
    code = replica.Replica._on_initialized.__code__
    is_known = _NAME in code.co_names and _EVERYWHERE in code.co_consts
    if not is_known or getattr(replica, _NAME, None) is not add_port_to_grpc_server:
        raise RuntimeError("This version of Ray Serve cannot be kept on loopback.")
    setattr(replica, _NAME, _add_loopback_port)


def listen_on_loopback_where_alone() -> None:
    """Do that where the plane runs Ray itself; in a cluster, replicas must reach one another."""
    if RUN_VARIABLE in os.environ:
        listen_on_loopback()


def _add_loopback_port(server: Any, address: str) -> int:
    if address != _EVERYWHERE:
        raise RuntimeError(f"A replica wants to listen on {address}, not on {_EVERYWHERE}.")
    return int(add_port_to_grpc_server(server, "127.0.0.1:0"))  # type: ignore[no-untyped-call]
