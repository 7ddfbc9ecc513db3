"""Limits the requests of each user with a token bucket. Off unless GAPLESS_INGEST_RATE_PER_S is set."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, NamedTuple

MAX_USERS: Final = 100_000
"""Maximum number of buckets. The least recently seen user is dropped first, and starts again with a full bucket."""


class Quota(NamedTuple):
    """What a user may still send, after one request was counted or refused."""

    remaining: int
    """Number of requests that the user may send at once."""
    full_in_s: float
    """Seconds until the user may send a whole burst again."""
    retry_after_s: float
    """0 if the request may proceed, otherwise the seconds until the next one may."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


class RateLimit:
    """The rate limit of this process alone: n processes let through n times as much. Time is passed in, in seconds."""

    def __init__(self, *, rate_per_s: float, burst: int) -> None:
        self._rate_per_s = rate_per_s
        self._burst = float(burst)
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        # A bucket of q tokens that is full again after w seconds: the fields of draft-ietf-httpapi-ratelimit-headers.
        self.policy = b'"requests";q=%d;w=%d' % (burst, max(1, round(burst / rate_per_s)))
        """Value of the header `RateLimit-Policy`."""

    def take(self, user_id: str, now_s: float) -> Quota:
        """Count one request of the user, if it may proceed."""
        bucket = self._buckets.get(user_id)
        if bucket is None:
            bucket = self._buckets[user_id] = _Bucket(self._burst, now_s)
            if len(self._buckets) > MAX_USERS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(user_id)
            bucket.tokens = min(self._burst, bucket.tokens + (now_s - bucket.at_s) * self._rate_per_s)
            bucket.at_s = now_s
        retry_after_s = 0.0
        if bucket.tokens >= 1:
            bucket.tokens -= 1
        else:
            retry_after_s = (1 - bucket.tokens) / self._rate_per_s
        return Quota(int(bucket.tokens), (self._burst - bucket.tokens) / self._rate_per_s, retry_after_s)


def quota_header(quota: Quota) -> bytes:
    """Return the value of the header `RateLimit`."""
    return b'"requests";r=%d;t=%d' % (quota.remaining, math.ceil(quota.full_in_s))
