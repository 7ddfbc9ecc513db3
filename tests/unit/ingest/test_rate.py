from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.api import rate
from services.ingest.api.rate import RateLimit, quota_header


def waits(limit: RateLimit, user: str, *at_s: float) -> list[float]:
    return [limit.take(user, each).retry_after_s for each in at_s]


def test_a_burst_goes_through_and_then_the_rate_counts() -> None:
    limit = RateLimit(rate_per_s=2.0, burst=3)
    assert waits(limit, "a", 0.0, 0.0, 0.0) == [0.0, 0.0, 0.0]
    assert waits(limit, "a", 0.0, 0.5, 0.75) == pytest.approx([0.5, 0.0, 0.25])


def test_users_do_not_use_up_each_others_requests() -> None:
    limit = RateLimit(rate_per_s=1.0, burst=1)
    assert [*waits(limit, "a", 0.0), *waits(limit, "b", 0.0)] == [0.0, 0.0]
    assert limit.take("a", 0.0).retry_after_s > 0


def test_a_bucket_never_holds_more_than_the_burst() -> None:
    limit = RateLimit(rate_per_s=10.0, burst=2)
    limit.take("a", 0.0)
    assert waits(limit, "a", 1e6, 1e6) == [0.0, 0.0]
    assert limit.take("a", 1e6).retry_after_s > 0


def test_the_user_not_seen_for_longest_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "MAX_USERS", 2)
    limit = RateLimit(rate_per_s=0.001, burst=1)
    for user in ("a", "b", "a", "c"):  # a is seen again, so b goes
        limit.take(user, 0.0)
    assert limit.take("a", 0.0).retry_after_s > 0
    assert limit.take("b", 0.0).retry_after_s == 0.0


@given(
    rate_per_s=st.floats(0.01, 1_000),
    burst=st.integers(1, 100),
    pauses_s=st.lists(st.floats(0, 100), min_size=1, max_size=50),
)
def test_what_is_left_is_what_may_be_sent_at_once(rate_per_s: float, burst: int, pauses_s: list[float]) -> None:
    limit, now_s = RateLimit(rate_per_s=rate_per_s, burst=burst), 0.0
    for pause_s in pauses_s:
        now_s += pause_s
        quota = limit.take("a", now_s)
    assert 0 <= quota.remaining < burst
    assert all(wait_s == 0 for wait_s in waits(limit, "a", *[now_s] * quota.remaining))
    assert limit.take("a", now_s).retry_after_s > 0


def test_after_the_seconds_that_are_said_the_whole_burst_may_be_sent() -> None:
    limit = RateLimit(rate_per_s=0.5, burst=3)
    for _ in range(2):
        quota = limit.take("a", 0.0)
    assert (quota, limit.policy) == ((1, 4.0, 0.0), b'"requests";q=3;w=6')
    assert quota_header(quota) == b'"requests";r=1;t=4'
    assert waits(limit, "a", 4.0, 4.0, 4.0) == [0.0, 0.0, 0.0]
