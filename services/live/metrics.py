"""The metrics of live."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

STREAMS: Final = Gauge("gapless_live_streams", "Open streams, by kind.", ["kind"])
CATCHING_UP: Final = Gauge(
    "gapless_live_catching_up", "Streams whose client takes less than comes, as of the last second."
)
OPENED: Final = Counter("gapless_live_opened_total", "Streams opened, by kind.", ["kind"])
REFUSED: Final = Counter("gapless_live_refused_total", "Streams refused, by reason.", ["reason"])
CLOSED: Final = Counter("gapless_live_closed_total", "Streams that the server closed, by reason.", ["reason"])
LAGGED: Final = Counter("gapless_live_lagged_total", "Streams that were too slow for the ring, and got `lagged`.")
GAPS: Final = Counter("gapless_live_gaps_total", "Streams opened at a cursor older than the ring.")
EVENTS: Final = Counter("gapless_live_events_total", "Events taken from the log.")
BYTES: Final = Counter("gapless_live_bytes_total", "Bytes written to streams.")
DELAY_SECONDS: Final = Histogram(
    "gapless_live_delay_seconds",
    "Time from an outcome's timestamp to its frames being written, of the last event of each piece read.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
SIGNALS: Final = Counter(
    "gapless_live_signals_total", "Typing and presence of this process's users, by whether it was sent.", ["result"]
)
RING_BYTES: Final = Gauge("gapless_live_ring_bytes", "Size of the newest events kept in memory, roughly.")
PARTITIONS_STOPPED: Final = Gauge("gapless_live_partitions_stopped", "Partitions at a record that cannot be passed.")
