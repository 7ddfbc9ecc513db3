"""Tokens, and the watch that wakes the reads that wait for one."""

from __future__ import annotations

import asyncio
import time

import pytest

from services.query.errors import ReadModelUnavailable
from services.query.snapshot.at_least import HeadWatch, Token, read_token
from services.runtime.web.problems import Problem

LONG_S = 20.0


def test_a_token_names_a_partition_and_an_index() -> None:
    assert read_token(" 5:1042 ", 8) == Token(partition=5, index=1042)


@pytest.mark.parametrize("text", ["", "5", "5:", ":5", "5:1:2", "-1:4", "5:0x1", "a:b", "5:" + "9" * 19, "8:1", "٣:1"])
def test_anything_else_is_refused_with_what_a_token_is(text: str) -> None:
    with pytest.raises(Problem) as refused:
        read_token(text, 8)
    assert refused.value.status == 400
    assert refused.value.errors[0]["in"] == "header"


class Heads:
    """A projection that the test moves."""

    def __init__(self) -> None:
        self.now: dict[int, int] = {}
        self.looks = 0
        self.away = False

    async def look(self) -> dict[int, int]:
        self.looks += 1
        if self.away:
            raise ReadModelUnavailable("away")
        return dict(self.now)


def wait(watch: HeadWatch, partition: int, index: int, timeout_s: float = LONG_S) -> asyncio.Task[bool]:
    token = Token(partition=partition, index=index)
    return asyncio.create_task(watch.wait_for(token, time.monotonic() + timeout_s))


async def until_looked(heads: Heads, times: int) -> None:
    async with asyncio.timeout(LONG_S):
        while heads.looks < times:
            await asyncio.sleep(0.001)


def test_each_waiter_is_woken_by_its_own_token() -> None:
    async def story() -> None:
        heads = Heads()
        watch = HeadWatch(heads.look)
        near, far, elsewhere = wait(watch, 0, 5), wait(watch, 0, 9), wait(watch, 1, 1)
        heads.now = {0: 4}
        await until_looked(heads, 2)
        assert not near.done()
        heads.now = {0: 6}
        assert await near
        assert not far.done()
        assert not elsewhere.done()
        heads.now = {0: 9, 1: 1}
        assert await far
        assert await elsewhere
        await watch.stop()

    asyncio.run(story())


def test_nobody_looks_while_nobody_waits() -> None:
    async def story() -> None:
        heads = Heads()
        heads.now = {0: 1}
        watch = HeadWatch(heads.look)
        assert await wait(watch, 0, 1)
        assert watch._watching is not None
        await watch._watching  # ends by itself
        looks = heads.looks
        assert await wait(watch, 0, 1), "and begins again"
        assert heads.looks > looks

    asyncio.run(story())


def test_a_wait_ends_at_its_deadline() -> None:
    async def story() -> None:
        watch = HeadWatch(Heads().look)
        began_s = time.monotonic()
        assert not await wait(watch, 0, 1, timeout_s=0.05)
        assert 0.04 < time.monotonic() - began_s < 60
        assert not await wait(watch, 0, 1, timeout_s=-1.0)
        await watch.stop()

    asyncio.run(story())


def test_an_outage_does_not_end_the_watch() -> None:
    async def story() -> None:
        heads = Heads()
        heads.away = True
        watch = HeadWatch(heads.look)
        waiting = wait(watch, 0, 1)
        await until_looked(heads, 3)
        heads.away, heads.now = False, {0: 1}
        assert await waiting
        await watch.stop()

    asyncio.run(story())
