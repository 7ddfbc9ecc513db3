"""The metrics every service shares, and how all of a process's metrics are shown.

Each service declares its own in `services/<service>/metrics.py`; the units are in the names.
"""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every one, which nobody reads

BUILD_INFO: Final = Gauge(
    "gapless_build_info", "1, with what runs here in the labels.", ["service", "version", "python"]
)
HTTP_REQUEST_SECONDS: Final = Histogram(
    "gapless_http_request_duration_seconds",
    "From the first byte of a request read to the last byte of its answer handed over.",
    ["method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
HTTP_REQUESTS_IN_FLIGHT: Final = Gauge("gapless_http_requests_in_flight", "Requests being answered now.")
HTTP_UNHANDLED_ERRORS: Final = Counter(
    "gapless_http_unhandled_errors_total", "Requests that ended in an exception nobody expected.", ["route"]
)
LOG_LINES_SUPPRESSED: Final = Counter(
    "gapless_log_lines_suppressed_total",
    "Log lines left out because the same was said within the last minute; `gapless`: lines of ours.",
    ["logger"],
)
DEPENDENCY_REACHABLE: Final = Gauge(
    "gapless_dependency_reachable",
    "1 while what this process needs answers (kafka, postgres, snapshots), else 0; probed every second or so.",
    ["dependency"],
)
HTTP_REFUSED: Final = Counter(
    "gapless_http_connections_refused_total",
    "Connections closed because of what their client sent, or did not send in time.",
    ["reason"],
)
TOPIC_FAULTS: Final = Gauge(
    "gapless_topic_faults",
    "Settings of a topic that are not as the protocol needs them, as it was last looked at; readyz says which.",
    ["topic"],
)
TOPIC_PARTITIONS_IGNORED: Final = Gauge(
    "gapless_topic_partitions_ignored",
    "Partitions of a topic beyond those of the log: somebody added them, and nothing in them is read or decided.",
    ["topic"],
)
UNMATCHED: Final = "unmatched"
"""The route of a request that has none."""

# Shown at 0 from the start: Prometheus sees no increase in what was not there before.
for _reason in (
    "evicted", "unread", "headers_too_large", "uri_too_long", "request_timeout", "unknown_method", "malformed",
):  # fmt: skip
    HTTP_REFUSED.labels(reason=_reason)
HTTP_UNHANDLED_ERRORS.labels(route=UNMATCHED)
LOG_LINES_SUPPRESSED.labels(logger="gapless")


def package_version() -> str:
    """The version of the installed distribution, or `unknown` where the code runs without being installed."""
    try:
        return metadata.version("gapless")
    except metadata.PackageNotFoundError:
        return "unknown"


def announce_build(service: str) -> None:
    """Set gapless_build_info for this process."""
    labels = {"service": service, "version": package_version(), "python": platform.python_version()}
    BUILD_INFO.labels(**labels).set(1)


def exposition() -> tuple[bytes, str]:
    """All metrics of this process in Prometheus' text format, and its content type."""
    return generate_latest(), CONTENT_TYPE_LATEST
