"""Keeps the port between Serve's processes off the network, where the cluster has one node."""

from __future__ import annotations

import os
from typing import Any

LOOPBACK_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""0 in the environment of Ray's processes: they listen on 127.0.0.1 alone. Serve's replicas do not look at it."""


def listen_on_loopback_only() -> None:
    """Call it in a replica before Serve opens its port. Does nothing in a cluster of several nodes."""
    if os.environ.get(LOOPBACK_VARIABLE) != "0":
        return
    from ray.serve._private import replica

    add_port = replica.add_port_to_grpc_server

    def add_local_port(server: Any, address: str) -> Any:
        return add_port(server, address.replace("[::]", "127.0.0.1"))

    replica.add_port_to_grpc_server = add_local_port
