"""What a reader of a partition asks the broker for. Real brokers: tests/integration/kafka/test_kafka_clients.py."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.reader import PATIENT_BYTES, PATIENT_MS, PartitionReader


@pytest.mark.parametrize(("patient", "asked"), [(False, (500, 1)), (True, (PATIENT_MS, PATIENT_BYTES))])
def test_a_patient_reader_lets_records_gather_and_any_other_takes_the_first(
    patient: bool, asked: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: asyncio.Queue[Any] = asyncio.Queue()

    async def ask(self: PartitionReader, request: Any, group: object) -> Any:
        requests.put_nowait(request)
        await asyncio.Event().wait()

    async def main() -> None:
        monkeypatch.setattr(PartitionReader, "_ask", ask)
        reader = PartitionReader(
            kafka=KafkaConnection.plain(""), topic="t", partition=0, client_id="test", patient=patient
        )
        assert await reader.read(max_records=1, timeout_s=0.01) == []
        request = requests.get_nowait()
        assert (request._max_wait_ms, request._min_bytes) == asked
        await reader.close()

    asyncio.run(main())
