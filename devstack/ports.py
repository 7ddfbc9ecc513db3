"""Chooses ports on 127.0.0.1 that stay usable while a server is down and comes back.

They are not from the range that the kernel assigns to outgoing connections: a client that keeps connecting to a stopped
server's port in that range may get the same port as its own, connect to itself, and block the server's port.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

HOST = "127.0.0.1"
LOWEST_PORT = 10_240
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
# The usual start of the range, if the file above does not exist.
EPHEMERAL_START = 32_768
SMALLEST_USEFUL_RANGE = 1_000
ATTEMPTS = 200


def is_free(port: int) -> bool:
    """Return whether a server could listen on 127.0.0.1:`port` now. Ports in TIME_WAIT count as free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def choose_ports(count: int, *, wanted: list[int] | None = None) -> list[int]:
    """Return `count` different free ports, including those of `wanted` that are still free."""
    chosen: list[int] = []
    for place in range(count):
        earlier = wanted[place] if wanted is not None and place < len(wanted) else None
        if earlier is not None and earlier not in chosen and is_free(earlier):
            chosen.append(earlier)
        else:
            chosen.append(_free_port(exclude=[*chosen, *(wanted or [])]))
    return chosen


def _free_port(*, exclude: list[int]) -> int:
    below = _ephemeral_start()
    if below - LOWEST_PORT >= SMALLEST_USEFUL_RANGE:
        for _ in range(ATTEMPTS):
            port = random.randrange(LOWEST_PORT, below)  # noqa: S311 - not a secret
            if port not in exclude and is_free(port):
                return port
    # No free port below the outgoing range: let the kernel choose.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port


def _ephemeral_start() -> int:
    try:
        return int(EPHEMERAL_RANGE.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return EPHEMERAL_START
