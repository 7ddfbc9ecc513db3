"""The projector's metrics. `projection` is `chat_v<N>`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_PARTITION: Final = ["projection", "partition"]

EVENTS_APPLIED: Final = Counter(
    "gapless_projector_events_applied_total", "Valid outcomes written, with their position.", _PARTITION
)
VOID_RECORDS: Final = Counter(
    "gapless_projector_void_records_total", "Records of replaced writers, and repeated copies, passed over.", _PARTITION
)
ROWS_WRITTEN: Final = Counter("gapless_projector_rows_written_total", "Rows inserted or updated.", ["projection"])
BATCH_SECONDS: Final = Histogram(
    "gapless_projector_batch_seconds",
    "From records in hand to their commit.",
    ["projection"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
BATCH_EVENTS: Final = Histogram(
    "gapless_projector_batch_events",
    "Valid outcomes of one transaction.",
    ["projection"],
    buckets=(0, 1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000),
)
LAG_EVENTS: Final = Gauge("gapless_projector_lag_events", "Records of the log that are not yet written.", _PARTITION)
LAG_SECONDS: Final = Gauge(
    "gapless_projector_lag_seconds",
    "Age of the oldest record not yet written, 0 at the end; while Kafka cannot be asked, at least that long.",
    _PARTITION,
)
PARTITION_STOPPED: Final = Gauge(
    "gapless_projector_partition_stopped", "1 for a partition that waits for a person; readyz says why.", _PARTITION
)
PARTITION_WAITING: Final = Gauge(
    "gapless_projector_partition_waiting", "1 while Kafka or Postgres is away for this partition.", _PARTITION
)
RETRIES: Final = Counter(
    "gapless_projector_retries_total", "Attempts begun anew because Kafka or Postgres did not answer.", _PARTITION
)
LOST_RACES: Final = Counter(
    "gapless_projector_lost_races_total", "Batches rolled back because another projector was first.", _PARTITION
)
PRUNED_OUTCOMES: Final = Counter(
    "gapless_projector_pruned_outcomes_total", "Rows of outcomes deleted after their 7 days.", ["projection"]
)

SERVING_FED: Final = Gauge(
    "gapless_projector_serving_fed",
    "1 while the projection that readers see is of this release's row mapping, and so fed by it; else 0.",
)


def begin(projection: str, partition: str) -> None:
    """Export a partition's counters at 0 as soon as it is fed: a series that starts above 0 shows no increase."""
    for counter in (EVENTS_APPLIED, VOID_RECORDS, RETRIES, LOST_RACES):
        counter.labels(projection, partition)
    for of_projection in (ROWS_WRITTEN, PRUNED_OUTCOMES):
        of_projection.labels(projection)


def show_lag(projection: str, partition: str, events: Callable[[], float], seconds: Callable[[], float]) -> None:
    """Set the functions that return the lag; both are called at each scrape."""
    LAG_EVENTS.labels(projection, partition).set_function(events)
    LAG_SECONDS.labels(projection, partition).set_function(seconds)


def forget(projection: str, partition: int) -> None:
    """Remove a partition that another process now reports: the values here would never change again."""
    for gauge in (LAG_EVENTS, LAG_SECONDS, PARTITION_STOPPED, PARTITION_WAITING):
        try:
            gauge.remove(projection, str(partition))
        except KeyError:  # never set
            continue
