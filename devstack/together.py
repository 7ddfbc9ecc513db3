"""Runs several steps concurrently, and raises the first error."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def all_of(*steps: Coroutine[Any, Any, Result]) -> list[Result]:
    """Run the steps and return their results in order. The first failure cancels the other steps, waits for their end
    and is raised itself, not in a group: a person gets one sentence."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step) for step in steps]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
