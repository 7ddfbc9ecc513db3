"""One process among several: what its heartbeats say of its writers, and how it hands them over before it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from services.sequencer.partition.writer import PartitionWriter, Status
from services.sequencer.peers.failure_detector import FailureDetector

HAND_OVER_S: Final = 1.0
"""How long a process that is asked to stop goes on in partitions for which another stands by."""


def state_of(writers: Mapping[int, PartitionWriter]) -> tuple[dict[int, int], frozenset[int]]:
    """Partition → the term that is served there; and the partitions that are stood by for."""
    serves = {partition: term for partition, writer in writers.items() if (term := writer.term) is not None}
    return serves, frozenset(p for p, writer in writers.items() if writer.status is Status.STANDING_BY)


async def hand_over(writers: Mapping[int, PartitionWriter], detector: FailureDetector, news: asyncio.Event) -> None:
    """Asks each writer to stop as soon as another process writes in its partition, or nobody is there who would; all
    of them after HAND_OVER_S. What they append in between is valid until the other's opening, and void after it.

    `news` is set when the presence or the status of a writer has changed.
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
