"""What a reader of many partitions does when fetching ends. Real brokers: tests/integration/kafka."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.errors import KafkaRefused
from services.runtime.kafka.partitions_reader import PartitionsReader


def test_an_error_is_raised_by_the_read_that_waits_for_news_and_by_every_later_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A read that returned nothing instead would look like success, and its caller would retry without a pause."""

    async def connect(self: PartitionsReader, client: Any) -> None: ...

    def by_leader(self: PartitionsReader, client: Any) -> dict[int, list[int]]:
        return {0: [0]}

    async def fetch(self: PartitionsReader, *_: Any) -> None:
        await asyncio.sleep(0.05)
        raise KafkaRefused("by the test")

    async def main() -> None:
        monkeypatch.setattr(PartitionsReader, "_connect", connect)
        monkeypatch.setattr(PartitionsReader, "_by_leader", by_leader)
        monkeypatch.setattr(PartitionsReader, "_fetch", fetch)
        reader = PartitionsReader(kafka=KafkaConnection.plain("127.0.0.1:1"), topic="t", client_id="test")
        await reader.start({0: 0})
        for _ in range(2):
            with pytest.raises(KafkaRefused, match="by the test"):
                await reader.read(max_records=1, timeout_s=60.0)
        await reader.close()

    asyncio.run(main())
