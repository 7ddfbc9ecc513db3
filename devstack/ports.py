"""Chooses ports on 127.0.0.1 that stay usable while a server is down and comes back.

They are not from the range that the kernel assigns to outgoing connections: a client that keeps connecting to a stopped
server's port in that range may get the same port as its own, connect to itself, and block the server's port.

A server listens seconds after its port was chosen. Meanwhile the process that chose it holds a lock on a file of that
name, so that two stacks that start at once never choose the same port.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import Final

HOST = "127.0.0.1"
LOWEST_PORT = 10_240
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
# The usual start of the range, if the file above does not exist.
EPHEMERAL_START = 32_768
SMALLEST_USEFUL_RANGE = 1_000
ATTEMPTS = 200
LOCKS_KEPT: Final = 64
"""More than one stack chooses. The servers of older ones listen by now, or never will."""
LOCKS: Final = Path(tempfile.gettempdir()) / f"gapless-ports.{os.getuid()}"

_locked: dict[int, int] = {}
"""Port → file descriptor of its lock, oldest first. The kernel releases it when this process ends, however it ends."""


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


def _is_ours(port: int) -> bool:
    """Lock a port for the life of this process. Returns False if another process has it."""
    if port in _locked:
        return True
    LOCKS.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(LOCKS / str(port), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return False
    _locked[port] = lock
    if len(_locked) > LOCKS_KEPT:
        os.close(_locked.pop(next(iter(_locked))))
    return True


def choose_ports(count: int, *, wanted: list[int] | None = None) -> list[int]:
    """Return `count` different free ports, including those of `wanted` that are still free."""
    chosen: list[int] = []
    for place in range(count):
        earlier = wanted[place] if wanted is not None and place < len(wanted) else None
        if earlier is not None and earlier not in chosen and is_free(earlier) and _is_ours(earlier):
            chosen.append(earlier)
        else:
            chosen.append(_free_port(exclude=[*chosen, *(wanted or [])]))
    return chosen


def _free_port(*, exclude: list[int]) -> int:
    below = _ephemeral_start()
    if below - LOWEST_PORT >= SMALLEST_USEFUL_RANGE:
        for _ in range(ATTEMPTS):
            port = random.randrange(LOWEST_PORT, below)  # noqa: S311 - not a secret
            if port not in exclude and port not in _locked and is_free(port) and _is_ours(port):
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
