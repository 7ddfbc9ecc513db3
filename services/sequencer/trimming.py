"""Deletes commands that were decided long enough ago, in the partitions that this process serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.errors import KafkaError
from services.runtime.kafka.topics import delete_records, first_offsets_since
from services.sequencer import metrics
from services.sequencer.partition.writer import PartitionWriter

log = structlog.get_logger(__name__)

_EVERY_S: Final = 600.0


def trim_to(decided_offset: int, first_kept: int | None) -> int:
    """Return the offset before which commands may be deleted: those decided and older than the keep time.

    `first_kept` is the first command inside the keep time; None where all are older.
    """
    decided_end = decided_offset + 1
    return decided_end if first_kept is None else min(decided_end, first_kept)


class Trimmer:
    """Trims the partitions that this process serves, by default every ten minutes."""

    def __init__(
        self,
        writers: Callable[[], Sequence[tuple[int, PartitionWriter]]],
        *,
        kafka: KafkaConnection,
        topic: str,
        keep_s: float,
        now_ms: Callable[[], int],
        every_s: float = _EVERY_S,
    ) -> None:
        self._writers = writers
        self._kafka = kafka
        self._topic = topic
        self._keep_s = keep_s
        self._now_ms = now_ms
        self._every_s = every_s
        self._trimmed: dict[int, int] = {}

    async def run(self) -> None:
        """Run until cancelled. A failure only costs disk space: it is logged, and the next round tries again."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.trim_once()
            except KafkaError as error:
                log.warning("commands.not_trimmed", reason=str(error))

    async def trim_once(self) -> dict[int, int]:
        """Trim once. Returns partition → first remaining offset. Raises KafkaUnavailable."""
        decided = {p: offset for p, w in self._writers() if (offset := w.decided_offset) is not None and offset >= 0}
        if not decided:
            return {}
        since_ms = max(0, self._now_ms() - int(self._keep_s * 1000))
        first_kept = await first_offsets_since(self._kafka, self._topic, sorted(decided), since_ms)
        before = {p: trim_to(offset, first_kept[p]) for p, offset in decided.items()}
        before = {p: to for p, to in before.items() if to > self._trimmed.get(p, 0)}
        if before:
            await delete_records(self._kafka, self._topic, before)
            self._trimmed.update(before)
            for partition, to in before.items():
                metrics.TRIMMED_TO.labels(partition).set(to)
            log.info("commands.trimmed", before=before)
        return before
