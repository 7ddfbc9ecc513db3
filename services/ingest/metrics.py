"""The metrics of ingest. Requests, their durations and statuses are measured by the runtime, for every route."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from schemas.types import CommandType

_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30)

COMMANDS_APPENDED: Final = Counter(
    "gapless_ingest_commands_appended_total", "Commands acknowledged by Kafka.", ["command_type"]
)
APPEND_SECONDS: Final = Histogram(
    "gapless_ingest_append_duration_seconds", "Time from handing a command to Kafka to its acknowledgement.",
    buckets=_SECONDS,
)  # fmt: skip
APPENDS_IN_FLIGHT: Final = Gauge("gapless_ingest_appends_in_flight", "Commands sent to Kafka, not acknowledged yet.")
APPENDS_REFUSED: Final = Counter(
    "gapless_ingest_appends_refused_total", "Commands answered with 503 because too many were in flight."
)
APPENDS_FAILED: Final = Counter(
    "gapless_ingest_appends_failed_total", "Commands answered with 503 because Kafka could not be reached."
)
APPENDS_UNKNOWN: Final = Counter(
    "gapless_ingest_appends_unknown_total", "Commands that Kafka did not acknowledge in time; they may be in the log."
)
REPLY_WAIT_SECONDS: Final = Histogram(
    "gapless_ingest_reply_wait_duration_seconds", "Time from handing a command to Kafka to its outcome.",
    buckets=_SECONDS,
)  # fmt: skip
WAITERS: Final = Gauge("gapless_ingest_waiters", "Requests currently waiting for an outcome.")
ANSWERED_FROM_LOG: Final = Counter(
    "gapless_ingest_answered_from_log_total",
    "Messages whose outcome this process read in the log, mostly before the reply; only where it serves live too.",
)
WAITS_TIMED_OUT: Final = Counter(
    "gapless_ingest_waits_timed_out_total", "Requests answered with 202 because no outcome came in time."
)
RECEIPTS_COALESCED: Final = Counter(
    "gapless_ingest_receipts_coalesced_total", "Receipts that were coalesced into a higher one."
)
RATE_LIMITED: Final = Counter("gapless_ingest_rate_limited_total", "Requests answered with 429.")
REPLIES_UNREADABLE: Final = Counter(
    "gapless_ingest_replies_unreadable_total", "Records of chat.replies that are not replies."
)
REPLY_LISTENER_RESTARTS: Final = Counter(
    "gapless_ingest_reply_listener_restarts_total", "Number of times that the listener of chat.replies was restarted."
)
for _type in CommandType:
    COMMANDS_APPENDED.labels(command_type=_type.value)
