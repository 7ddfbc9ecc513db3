"""What query measures. Requests themselves are measured by `services.runtime.web.middleware`."""

from __future__ import annotations

from typing import Final

import psycopg
from prometheus_client import Counter, Gauge, Histogram
from psycopg_pool import PoolTimeout

SNAPSHOT_WAIT_SECONDS: Final = Histogram(
    "gapless_query_snapshot_wait_seconds",
    "From a read being wanted to a connection being free for its snapshot.",
    buckets=(0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
SNAPSHOT_SECONDS: Final = Histogram(
    "gapless_query_snapshot_duration_seconds",
    "From BEGIN sent to all rows of the snapshot received.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
SNAPSHOT_FAILURES: Final = Counter(
    "gapless_query_snapshot_failures_total", "Reads answered with 503 because Postgres could not be read.", ["error"]
)
ROWS_RETURNED: Final = Counter(
    "gapless_query_rows_returned_total", "Rows that went into answers, by statement.", ["statement"]
)
AT_LEAST_WAITS: Final = Counter(
    "gapless_query_at_least_waits_total",
    "Reads with a token: held = the first snapshot had it, waited = a later one, behind = none in time.",
    ["result"],
)
AT_LEAST_WAIT_SECONDS: Final = Histogram(
    "gapless_query_at_least_wait_seconds",
    "How long a read whose first snapshot was behind its token waited for the projection.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
AT_LEAST_WAITING: Final = Gauge("gapless_query_at_least_waiting", "Reads that wait for the projection now.")
PARTITIONS_NOT_FED: Final = Gauge(
    "gapless_query_partitions_not_fed",
    "Partitions of what readers see that no projector has fed for 30 s; /readyz names them in `notes`.",
)

# Shown at 0 from the start: Prometheus sees no increase in what was not there before.
for _result in ("held", "waited", "behind"):
    AT_LEAST_WAITS.labels(result=_result)

_FAILURES: Final[tuple[type[Exception], ...]] = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.QueryCanceled,
    psycopg.errors.LockNotAvailable,
    PoolTimeout,
    TimeoutError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.Error,
    Exception,
)
"""The narrower before the wider."""
for _kind in _FAILURES:
    SNAPSHOT_FAILURES.labels(error=_kind.__name__)


def count_failure(error: Exception) -> None:
    """Counts a read that Postgres did not answer, under the narrowest name that is known of the error."""
    kind = next(kind for kind in _FAILURES if isinstance(error, kind))
    SNAPSHOT_FAILURES.labels(error=kind.__name__).inc()
