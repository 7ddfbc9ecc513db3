"""The metrics of query. Requests themselves are measured by `services.runtime.web.middleware`."""

from __future__ import annotations

from typing import Final

import psycopg
from prometheus_client import Counter, Gauge, Histogram
from psycopg_pool import PoolTimeout

SNAPSHOT_WAIT_SECONDS: Final = Histogram(
    "gapless_query_snapshot_wait_seconds",
    "Time that a read waits for a free connection for its snapshot.",
    buckets=(0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
SNAPSHOT_SECONDS: Final = Histogram(
    "gapless_query_snapshot_duration_seconds",
    "Time from sending BEGIN to receiving all rows of the snapshot.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
SNAPSHOT_FAILURES: Final = Counter(
    "gapless_query_snapshot_failures_total", "Reads answered with 503 because Postgres could not be read.", ["error"]
)
ROWS_RETURNED: Final = Counter(
    "gapless_query_rows_returned_total", "Rows returned in responses, by statement.", ["statement"]
)
AT_LEAST_WAITS: Final = Counter(
    "gapless_query_at_least_waits_total",
    "Reads with a token: held = the first snapshot contained it, waited = a later one did, behind = none did in time.",
    ["result"],
)
AT_LEAST_WAIT_SECONDS: Final = Histogram(
    "gapless_query_at_least_wait_seconds",
    "How long a read whose first snapshot was behind its token waited for the projection.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
AT_LEAST_WAITING: Final = Gauge("gapless_query_at_least_waiting", "Reads currently waiting for the projection.")
PARTITIONS_NOT_FED: Final = Gauge(
    "gapless_query_partitions_not_fed",
    "Partitions of the serving projection that no projector has fed for 30 s; /readyz names them in `notes`.",
)

# Exposed as 0 from the start: Prometheus sees no increase in a series that did not exist before.
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
"""Error classes and their labels; subclasses before their base classes."""
for _kind in _FAILURES:
    SNAPSHOT_FAILURES.labels(error=_kind.__name__)


def count_failure(error: Exception) -> None:
    """Count a read that Postgres did not answer, under the most specific label that fits the error."""
    kind = next(kind for kind in _FAILURES if isinstance(error, kind))
    SNAPSHOT_FAILURES.labels(error=kind.__name__).inc()
