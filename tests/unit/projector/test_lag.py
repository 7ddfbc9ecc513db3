"""How far a partition is behind, computed from what is known of it: pure."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.projector.following.consumer import PartitionConsumer
from services.projector.following.lag import END_IS_FRESH_S, PartitionLag, lag_seconds

NOW_S = 1_800_000_000.0
WEEKEND_S = 3 * 86_400.0


def seconds(**known: Any) -> float:
    facts: dict[str, Any] = {"oldest_ms": None, "behind_since_s": None, "end_known_s": NOW_S, "stopped_s": None}
    return lag_seconds(NOW_S, **(facts | known))


def test_at_the_end_of_the_log_there_is_no_lag() -> None:
    assert seconds() == 0.0


def test_after_a_quiet_weekend_the_lag_is_the_age_of_what_came_and_not_of_what_was_before() -> None:
    assert seconds(oldest_ms=int(NOW_S * 1000) - 5, behind_since_s=NOW_S - 0.001) == pytest.approx(0.005, abs=0.001)


def test_what_was_not_read_yet_is_at_least_as_old_as_the_news_of_it() -> None:
    assert seconds(behind_since_s=NOW_S - 7) == 7.0


def test_while_the_end_of_the_log_is_unknown_the_lag_grows() -> None:
    assert seconds(end_known_s=NOW_S - END_IS_FRESH_S) == 0.0
    assert seconds(end_known_s=NOW_S - 600) == 600.0
    assert seconds(end_known_s=NOW_S - 600, oldest_ms=int((NOW_S - WEEKEND_S) * 1000)) == WEEKEND_S


def test_a_partition_that_stopped_before_it_read_anything_lags_from_then_on() -> None:
    assert seconds(stopped_s=NOW_S - 60) == 60.0
    assert seconds(stopped_s=NOW_S - 60, behind_since_s=NOW_S - 90) == 90.0


def test_a_clock_behind_the_one_of_the_log_gives_no_negative_lag() -> None:
    assert seconds(oldest_ms=int(NOW_S * 1000) + 5_000) == 0.0


def test_the_lag_is_computed_when_it_is_asked_for() -> None:
    consumer = SimpleNamespace(read_to=10, position=SimpleNamespace(next_offset=10), oldest_ms=None)
    lag = PartitionLag(cast("PartitionConsumer", consumer))
    lag.saw_end(10)
    assert (lag.events(), lag.seconds()) == (0, 0.0)
    lag.saw_end(14)
    assert lag.events() == 4
    consumer.oldest_ms = int((time.time() - 30) * 1000)
    assert 30 <= lag.seconds() < 40
    consumer.position.next_offset, consumer.oldest_ms = 14, None
    assert (lag.events(), lag.seconds()) == (0, 0.0)
