"""The throttle of a rebuild, with the lags that it measures given."""

from __future__ import annotations

import asyncio

import pytest

from services.projector.versions import throttle
from services.projector.versions.throttle import Throttle


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "ASK_INTERVAL_S", 0.0)


def _waited(lags: list[int], max_lag: int) -> tuple[list[int], list[int | None]]:
    """Let one loader pass. Returns the lags that were not measured, and those that were reported."""
    left, told = list(lags), list[int | None]()

    async def ask() -> int:
        return left.pop(0)

    asyncio.run(Throttle(max_lag, ask, told.append).wait())
    return left, told


def test_a_lag_at_the_limit_lets_a_loader_pass_at_once() -> None:
    assert _waited([10, 99], 10) == ([99], [])


def test_a_lag_above_the_limit_makes_it_wait_until_the_lag_is_lower() -> None:
    assert _waited([12, 11, 10, 99], 10) == ([99], [12, 11, None])


def test_a_measured_lag_holds_for_a_while_and_for_every_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "ASK_INTERVAL_S", 3_600.0)
    asked = 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        return 0

    async def pass_by() -> None:
        one = Throttle(0, ask)
        await asyncio.gather(*(one.wait() for _ in range(20)))

    asyncio.run(pass_by())
    assert asked == 1
