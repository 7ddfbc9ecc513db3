"""What this process's heartbeats say about its writers, and how it hands them over before it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from services.sequencer.partition.writer import PartitionWriter, Status
from services.sequencer.peers.failure_detector import FailureDetector

HAND_OVER_S: Final = 1.0
"""Maximum time that a stopping process continues to serve partitions for which a peer stands by."""


def state_of(writers: Mapping[int, PartitionWriter]) -> tuple[dict[int, int], frozenset[int]]:
    """Return partition → the term served there, and the partitions that this process stands by for."""
    serves = {partition: term for partition, writer in writers.items() if (term := writer.term) is not None}
    return serves, frozenset(p for p, writer in writers.items() if writer.status is Status.STANDING_BY)


async def hand_over(writers: Mapping[int, PartitionWriter], detector: FailureDetector, news: asyncio.Event) -> None:
    """Ask each writer to stop once a peer writes in its partition or no peer stands by for it; all after HAND_OVER_S.

    What a writer appends meanwhile is valid before the peer's opening and void after it. `news` is set when the failure
    detector's results or the status of a writer have changed.
    """
    deadline_s = asyncio.get_running_loop().time() + HAND_OVER_S
    try:
        async with asyncio.timeout_at(deadline_s):
            left = dict(writers)
            while left:
                for partition, writer in list(left.items()):
                    if writer.term is None or detector.succeeded(partition, writer.term):
                        del left[partition]
                        writer.stop()
                news.clear()
                if left:
                    await news.wait()
    except TimeoutError:
        pass
    finally:
        for writer in writers.values():
            writer.stop()
