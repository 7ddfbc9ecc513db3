from __future__ import annotations

import pytest

from services.ingest.api import rate
from services.ingest.api.rate import RateLimit


def test_a_burst_goes_through_and_then_the_rate_counts() -> None:
    limit = RateLimit(rate_per_s=2.0, burst=3)
    assert [limit.take("a", 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert limit.take("a", 0.0) == pytest.approx(0.5)
    assert limit.take("a", 0.5) == 0.0
    assert limit.take("a", 0.75) == pytest.approx(0.25)


def test_users_do_not_use_up_each_others_requests() -> None:
    limit = RateLimit(rate_per_s=1.0, burst=1)
    assert limit.take("a", 0.0) == 0.0
    assert limit.take("b", 0.0) == 0.0
    assert limit.take("a", 0.0) > 0


def test_a_bucket_never_holds_more_than_the_burst() -> None:
    limit = RateLimit(rate_per_s=10.0, burst=2)
    limit.take("a", 0.0)
    assert [limit.take("a", 1e6) for _ in range(2)] == [0.0, 0.0]
    assert limit.take("a", 1e6) > 0


def test_who_was_not_seen_for_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "MAX_USERS", 2)
    limit = RateLimit(rate_per_s=0.001, burst=1)
    for user in ("a", "b", "a", "c"):  # a is seen again, so b goes
        limit.take(user, 0.0)
    assert limit.take("a", 0.0) > 0
    assert limit.take("b", 0.0) == 0.0
