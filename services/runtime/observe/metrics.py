"""The metrics that every service shares, and the exposition of all metrics of a process.

Each service declares its own in `services/<service>/metrics.py`; the units are in the names.
"""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the number of series and have no reader

BUILD_INFO: Final = Gauge(
    "gapless_build_info", "Always 1; the labels describe the running build.", ["service", "version", "python"]
)
HTTP_REQUEST_SECONDS: Final = Histogram(
    "gapless_http_request_duration_seconds",
    "Time from reading the first byte of a request to handing over the last byte of its response.",
    ["method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
HTTP_REQUESTS_IN_FLIGHT: Final = Gauge("gapless_http_requests_in_flight", "Requests being answered now.")
HTTP_UNHANDLED_ERRORS: Final = Counter(
    "gapless_http_unhandled_errors_total", "Requests that ended in an unexpected exception.", ["route"]
)
LOG_LINES_SUPPRESSED: Final = Counter(
    "gapless_log_lines_suppressed_total",
    "Log lines suppressed because a similar line was written within the last minute; `gapless`: our own lines.",
    ["logger"],
)
DEPENDENCY_REACHABLE: Final = Gauge(
    "gapless_dependency_reachable",
    "1 while a dependency of this process answers (kafka, postgres, snapshots), else 0; probed about once a second.",
    ["dependency"],
)
HTTP_REFUSED: Final = Counter(
    "gapless_http_connections_refused_total",
    "Connections closed because of what their client sent, or did not send in time.",
    ["reason"],
)
TOPIC_FAULTS: Final = Gauge(
    "gapless_topic_faults",
    "Settings of a topic that violate the protocol's needs, as of the last check; readyz names them.",
    ["topic"],
)
TOPIC_PARTITIONS_IGNORED: Final = Gauge(
    "gapless_topic_partitions_ignored",
    "Partitions added to a topic beyond those of the log; nothing in them is read or decided.",
    ["topic"],
)
UNMATCHED: Final = "unmatched"
"""The route label of a request that matches no route."""

# Exposed as 0 from the start: Prometheus sees no increase in a series that did not exist before.
for _reason in (
    "evicted", "unread", "headers_too_large", "uri_too_long", "request_timeout", "unknown_method", "malformed",
):  # fmt: skip
    HTTP_REFUSED.labels(reason=_reason)
HTTP_UNHANDLED_ERRORS.labels(route=UNMATCHED)
LOG_LINES_SUPPRESSED.labels(logger="gapless")


def package_version() -> str:
    """Return the version of the installed distribution, or `unknown` if the code runs without being installed."""
    try:
        return metadata.version("gapless")
    except metadata.PackageNotFoundError:
        return "unknown"


def announce_build(service: str) -> None:
    """Set gapless_build_info for this process."""
    labels = {"service": service, "version": package_version(), "python": platform.python_version()}
    BUILD_INFO.labels(**labels).set(1)


def exposition() -> tuple[bytes, str]:
    """Return all metrics of this process in Prometheus' text format, and its content type."""
    return generate_latest(), CONTENT_TYPE_LATEST
