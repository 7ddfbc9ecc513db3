"""Stops processes of a running stack for a while, like a machine that swaps or a debugger: SIGSTOP, SIGCONT."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from tests.support.running_stack import RunningStack


@contextmanager
def paused(stack: RunningStack, *names: str) -> Iterator[None]:
    """Stop the processes of these names and all their children while the block runs."""
    pids = [pid for name in names for pid in family(int(stack.document["processes"][name]))]
    try:
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in reversed(pids):
            _signal(pid, signal.SIGCONT)


def family(pid: int) -> list[int]:
    """Return the ids of a process and its children: Postgres has one process per connection."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # a child that has ended meanwhile
        os.kill(pid, number)
