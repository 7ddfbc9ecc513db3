"""Does several things at once, and says the one thing that went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def all_of(*steps: Coroutine[Any, Any, Result]) -> list[Result]:
    """The results in order. The first failure cancels the other steps, waits for their end and is raised
    as it is, not in a group: a person is told one sentence."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step) for step in steps]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
