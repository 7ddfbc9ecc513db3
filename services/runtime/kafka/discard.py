"""How to be rid of an aiokafka producer whose last append is unknown.

An idempotent producer never gives a batch up, and `stop()` waits for it: abandoned, it goes on writing when the
broker returns (seen: three "closed" producers' batches landed, out of order). So it gets no more connections, the
ones it has are cut, and its sender task is cancelled and awaited: after `discard` returns it can write nothing.
What it had already handed to the kernel may still land; the protocol expects that (a lower term is void).

This reaches into aiokafka's private parts, pinned to 0.14 in pyproject.toml; tests/integration/test_kafka_clients.py
breaks when they move.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from aiokafka import AIOKafkaProducer

DEADLINE_S: Final = 5.0


async def _refuse_connection(*_: Any, **__: Any) -> None:
    """Stands in for `AIOKafkaClient._get_conn`: None means "not ready" to everything that would send."""


def _leave_out(_: Any) -> None:
    """Stands in for `MessageAccumulator.reenqueue`."""


def _seen(future: asyncio.Future[Any]) -> None:
    """So that its error is not reported as never retrieved: whoever waited has given up, and has a deadline."""
    if not future.cancelled():
        future.exception()


async def discard(producer: AIOKafkaProducer) -> bool:
    """Takes every means to write from the producer. Whether its tasks ended within the deadline (they do; where
    they do not, they are left without connections and can only wait)."""
    client: Any = producer.client
    client._get_conn = _refuse_connection
    for connection in list(client._conns.values()):
        if connection._writer is not None:
            connection._writer.transport.abort()  # not close(): that would flush what the broker has not taken
        connection.close()
    client._conns.clear()
    producer._closed = True  # `stop()` would wait for the batch; with this it is not called by anyone, nor warned of
    tasks = [t for t in (producer._sender.sender_task, client._sync_task) if t is not None]
    ended = await _cancel(tasks)
    accumulator: Any = producer._message_accumulator
    # A request whose connection was cut comes back 100 ms later to queue its batch again: nobody would take it.
    accumulator.reenqueue = _leave_out
    # aiokafka takes a failed batch out of this set, and complains where it was queued again and is not in it.
    accumulator._pending_batches.update(batch for queue in accumulator._batches.values() for batch in queue)
    for batch in accumulator._pending_batches:
        for waiter in (batch.future, batch._drain_waiter, *(future for future, _ in batch._msg_futures)):
            waiter.add_done_callback(_seen)
    accumulator.fail_all(ConnectionError("the producer was discarded"))
    return ended


async def _cancel(tasks: list[asyncio.Task[Any]]) -> bool:
    """Cancels until they end: a cancelled sender first awaits its requests, and a second cancel ends those."""
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
