"""Discards an aiokafka producer whose last append is unknown.

An idempotent producer never gives up a batch, and `stop()` waits for it: an abandoned producer keeps writing when the
broker returns (observed: batches of three "closed" producers landed, out of order). So it gets no new connections, its
open ones are cut, and its sender task is cancelled and awaited: once `discard` returns, it can write nothing. Data
already handed to the kernel may still land; the protocol expects that (records of a lower term are void).

This uses private parts of aiokafka, pinned to 0.14 in pyproject.toml; tests/integration/kafka/test_kafka_clients.py
fails if they change.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from aiokafka import AIOKafkaProducer

DEADLINE_S: Final = 5.0


async def _refuse_connection(*_: Any, **__: Any) -> None:
    """Replace `AIOKafkaClient._get_conn`: callers that want to send take None for "not ready"."""


def _leave_out(_: Any) -> None:
    """Replace `MessageAccumulator.reenqueue`."""


def _seen(future: asyncio.Future[Any]) -> None:
    """Retrieve the future's error so that asyncio does not report it: its caller had a deadline and has given up."""
    if not future.cancelled():
        future.exception()


async def discard(producer: AIOKafkaProducer) -> bool:
    """Make it impossible for the producer to write. Returns whether its tasks ended within the deadline. (They do; if
    they did not, they would have no connections and could only wait.)"""
    client: Any = producer.client
    client._get_conn = _refuse_connection
    for connection in list(client._conns.values()):
        if connection._writer is not None:
            connection._writer.transport.abort()  # not close(): that would flush buffered data
        connection.close()
    client._conns.clear()
    producer._closed = True  # prevents a call of `stop()`, which would wait for the batch, and a warning
    tasks = [t for t in (producer._sender.sender_task, client._sync_task) if t is not None]
    ended = await _cancel(tasks)
    accumulator: Any = producer._message_accumulator
    # A request whose connection was cut re-queues its batch after 100 ms, where no sender would take it.
    accumulator.reenqueue = _leave_out
    # aiokafka removes a failed batch from this set, and fails if a re-queued batch is not in it.
    accumulator._pending_batches.update(batch for queue in accumulator._batches.values() for batch in queue)
    for batch in accumulator._pending_batches:
        for waiter in (batch.future, batch._drain_waiter, *(future for future, _ in batch._msg_futures)):
            waiter.add_done_callback(_seen)
    accumulator.fail_all(ConnectionError("the producer was discarded"))
    return ended


async def _cancel(tasks: list[asyncio.Task[Any]]) -> bool:
    """Cancel the tasks until they end: a cancelled sender first awaits its requests; a second cancel ends those."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DEADLINE_S):
            while pending := [t for t in tasks if not t.done()]:
                for task in pending:
                    task.cancel()
                await asyncio.wait(pending, timeout=0.05)
    for task in tasks:
        if task.done():
            _seen(task)
    return all(t.done() for t in tasks)
