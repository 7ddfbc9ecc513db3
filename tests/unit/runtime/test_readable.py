"""A reader that stays registered: each wait ends when there is input, and no input keeps the loop busy."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import psutil
import pytest
import uvloop

from services.runtime.postgres.readable import Readable

Run = Callable[[Coroutine[Any, Any, None]], None]
each_loop = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


def descriptors() -> int:
    return int(psutil.Process().num_fds())


@each_loop
def test_each_wait_ends_when_there_is_input(run: Run) -> None:
    async def story() -> None:
        here, there = socket.socketpair()
        with here, there:
            readable = Readable(here.fileno())
            for _ in range(3):
                waiting = asyncio.create_task(readable.wait())
                await asyncio.sleep(0)
                assert not waiting.done()
                there.send(b"x")
                await asyncio.wait_for(waiting, 30)
                here.recv(1)
            readable.stop()

    run(story())


@each_loop
def test_input_that_nobody_waits_for_removes_the_reader_and_the_next_wait_finds_it(run: Run) -> None:
    async def story() -> None:
        here, there = socket.socketpair()
        with here, there:
            before = descriptors()
            readable = Readable(here.fileno())
            there.send(b"x")
            await readable.wait()
            assert descriptors() == before + 1
            while descriptors() > before:  # the loop would call it on and on
                await asyncio.sleep(0.001)
            await readable.wait()
            readable.stop()

    run(asyncio.wait_for(story(), 30))


@each_loop
def test_after_a_stop_no_descriptor_is_left(run: Run) -> None:
    async def story() -> None:
        here, there = socket.socketpair()
        with here, there:
            there.send(b"x")
            readable = Readable(here.fileno())
            before = descriptors()
            for _ in range(3):
                await readable.wait()
                readable.stop()
            assert descriptors() == before

    run(asyncio.wait_for(story(), 30))
