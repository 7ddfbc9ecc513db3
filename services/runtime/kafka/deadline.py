"""A deadline around any call of aiokafka, with one error for "no answer"."""

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
"""The errors of a broker whose ACLs do not allow a request."""


async def within(timeout_s: float, what: str, work: Coroutine[Any, Any, T]) -> T:
    """Await the work for at most `timeout_s`. Raises KafkaUnavailable if it misses the deadline or the client fails,
    KafkaRefused if the broker's ACLs do not allow it.

    At the deadline the work is cancelled, but not awaited: if it hangs, it may well hang in its cancellation too.
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
    """Return the clause for an error of NOT_ALLOWED."""
    on = f" ({error})" if error.args else ""
    return f"Kafka's ACLs do not allow us to {what}{on}: grant this service what `gapless topics acls` prints"


def refuse_unless_allowed(code: int, what: str) -> None:
    """Raise KafkaRefused if an admin request was answered with a lack of rights."""
    error = kafka_errors.for_code(code)
    if issubclass(error, NOT_ALLOWED):
        raise KafkaRefused(not_allowed(what, error()))


def _seen(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # so that asyncio does not report it as never retrieved
