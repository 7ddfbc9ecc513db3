from __future__ import annotations

import asyncio
import sys

import pytest

from services.runtime.process.tasks import end


async def _deaf(times: int) -> None:
    """Lose that many cancellations, as asyncio.wait_for may, and then end by one."""
    for _ in range(times):
        try:
            await asyncio.sleep(3_600)
        except asyncio.CancelledError:
            continue
    await asyncio.sleep(3_600)


def test_a_task_that_loses_a_cancellation_is_cancelled_again_until_it_has_ended() -> None:
    async def story() -> None:
        tasks = [asyncio.create_task(_deaf(times)) for times in (0, 1, 3)]
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            await end(tasks, again_s=0.01)
        assert all(task.cancelled() for task in tasks)

    asyncio.run(story())


def test_an_error_of_an_ending_task_is_its_own() -> None:
    async def fails() -> None:
        try:
            await asyncio.sleep(3_600)
        finally:
            raise ValueError("while it ended")

    async def story() -> None:
        done, failing = asyncio.create_task(asyncio.sleep(0)), asyncio.create_task(fails())
        await done
        await asyncio.sleep(0)
        await end([done, failing])
        with pytest.raises(ValueError, match="while it ended"):
            failing.result()

    asyncio.run(story())


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="asyncio.wait_for is mended in Python 3.12")
def test_wait_for_loses_a_cancellation_that_arrives_with_its_result() -> None:
    """The reason for `end`: psycopg_pool waits for a connection like this."""

    async def is_lost(turns: int) -> bool:
        event = asyncio.Event()
        task = asyncio.create_task(asyncio.wait_for(event.wait(), 60))
        for _ in range(3):
            await asyncio.sleep(0)
        event.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        asked = task.cancel()
        await asyncio.wait({task})
        return asked and not task.cancelled()

    assert any(asyncio.run(is_lost(turns)) for turns in range(4))
