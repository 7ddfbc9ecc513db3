"""Python's cycle collector, told that a batch is no garbage.

A batch is some hundred thousand objects that live for one transaction and hold no cycles; by its defaults the
collector walks them every 700 allocations and frees nothing. Measured on a rebuild of 50,000 records: 1.8 s of
processor time instead of 2.9 s.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

THRESHOLDS: Final = (50_000, 20, 100)


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Within the block the collector of this process runs less often; reference counts free everything as ever."""
    before = gc.get_threshold()
    gc.set_threshold(*THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
