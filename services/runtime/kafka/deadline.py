"""A deadline around anything aiokafka does, with one error for "no answer"."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiokafka import errors as kafka_errors

from services.runtime.kafka.errors import KafkaUnavailable

T = TypeVar("T")


async def within(timeout_s: float, what: str, work: Coroutine[Any, Any, T]) -> T:
    """Awaits it for at most `timeout_s`. Raises KafkaUnavailable for a miss or any error of the client.

    A miss cancels the work and does not wait for the cancellation: what hangs may well hang there too.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not task.done():
        task.cancel()
        task.add_done_callback(_seen)
        raise KafkaUnavailable(f"Kafka did not {what} within {timeout_s:g} s")
    try:
        return task.result()
    except (kafka_errors.KafkaError, OSError, asyncio.CancelledError) as error:
        raise KafkaUnavailable(f"Kafka did not {what}: {error!r:.300}") from error


def _seen(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # so that asyncio does not report it as never retrieved
