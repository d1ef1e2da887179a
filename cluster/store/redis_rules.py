"""Which Redis servers are good enough: recent, and not open to the network."""

from __future__ import annotations

import ipaddress
import re
import socket

from policies.errors import InputError

REDIS_FLOOR = (8, 2, 2)
VALKEY_FLOORS = ((8, 1, 4), (9, 0, 3))  # of the 8 series; of all later ones
"""Below these, a Lua bug lets whoever may run a script run anything (CVE-2025-49844)."""


def check_version(server: str, version: str, where: str) -> None:
    """Raises InputError for a version with known holes, or for one that cannot be read."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    if server == "valkey":
        floor = VALKEY_FLOORS[0] if numbers[:1] <= (8,) else VALKEY_FLOORS[1]
    elif server == "redis":
        floor = REDIS_FLOOR
    else:
        raise InputError(f"the server at {where} calls itself {server!r}; use Redis or Valkey")
    if numbers < floor:
        raise InputError(
            f"the store at {where} is {server} {version}, which has known holes; use Redis >= 8.2.2, "
            "Valkey >= 8.1.4 of the 8 series, or Valkey >= 9.0.3"
        )


def is_loopback(host: str, port: int) -> bool:
    """Whether every address of a host is this machine's own. Raises OSError when it has none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return all(ipaddress.ip_address(str(address[0]).split("%")[0]).is_loopback for *_, address in found)


def refuse_without_password(where: str) -> InputError:
    return InputError(
        f"the store at {where} is on the network without a password: whoever reaches it reads and changes everything. "
        "Give it one (an ACL user) and name it in the URL, or use a unix socket or 127.0.0.1"
    )
