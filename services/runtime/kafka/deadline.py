"""A deadline around anything aiokafka does, with one error for "no answer"."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from aiokafka import errors as kafka_errors

from services.runtime.kafka.errors import KafkaRefused, KafkaUnavailable

T = TypeVar("T")
NOT_ALLOWED: Final = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
)
"""What a broker answers where its ACLs do not give us the right."""


async def within(timeout_s: float, what: str, work: Coroutine[Any, Any, T]) -> T:
    """Awaits it for at most `timeout_s`. Raises KafkaUnavailable for a miss or any error of the client; KafkaRefused
    where the broker's ACLs do not allow it.

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
    except NOT_ALLOWED as error:
        raise KafkaRefused(not_allowed(what, error)) from error
    except (kafka_errors.KafkaError, OSError, asyncio.CancelledError) as error:
        raise KafkaUnavailable(f"Kafka did not {what}: {error!r:.300}") from error


def not_allowed(what: str, error: BaseException) -> str:
    """The clause for one of NOT_ALLOWED."""
    on = f" ({error})" if error.args else ""
    return f"Kafka's ACLs do not allow us to {what}{on}: grant this service what `gapless topics acls` prints"


def refuse_unless_allowed(code: int, what: str) -> None:
    """Raises KafkaRefused where the answer of an admin request is that we lack the right."""
    error = kafka_errors.for_code(code)
    if issubclass(error, NOT_ALLOWED):
        raise KafkaRefused(not_allowed(what, error()))


def _seen(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # so that asyncio does not report it as never retrieved
