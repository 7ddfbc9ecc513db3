"""The sequencer's metrics, all of them; docs/metrics.md lists them with what to look at when."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from schemas.types import EventType
from services.sequencer.snapshots.manifest import RejectReason

OUTCOMES: Final = Counter(
    "gapless_sequencer_outcomes_total", "Valid outcomes of commands decided by this process.", ["partition", "type"]
)
APPEND_SECONDS: Final = Histogram(
    "gapless_sequencer_append_seconds",
    "From handing an append to Kafka to its acknowledgement.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
)
BATCH_COMMANDS: Final = Histogram(
    "gapless_sequencer_batch_commands", "Commands decided in one append.", buckets=(1, 2, 5, 10, 50, 100, 500, 1000)
)
TERMS_OPENED: Final = Counter("gapless_sequencer_terms_opened_total", "Terms opened by this process.", ["partition"])
STANDBY_TAKEOVERS: Final = Counter(
    "gapless_sequencer_standby_takeovers_total",
    "Takeovers by a standby whose partition's writer had fallen silent or was leaving, ahead of the group.",
    ["partition"],
)
FALSE_SUSPICIONS: Final = Counter(
    "gapless_sequencer_false_suspicions_total", "Other sequencers that were taken for silent and were heard again."
)
PEERS_HEARD: Final = Gauge("gapless_sequencer_peers_heard", "Other sequencers that this process hears.")
SUPERSEDED: Final = Counter(
    "gapless_sequencer_superseded_total", "Terms that ended because another's later term was found.", ["partition"]
)
UNKNOWN_RESULTS: Final = Counter(
    "gapless_sequencer_unknown_results_total", "Terms that ended because the result of an append was unknown.",
    ["partition"],
)  # fmt: skip
VOID_RECORDS: Final = Counter(
    "gapless_sequencer_void_records_total", "Void records met while folding (each is met once per reader).",
    ["partition"],
)  # fmt: skip
FOLDED_RECORDS: Final = Counter(
    "gapless_sequencer_folded_records_total", "Records of the event log folded into local state.", ["partition"]
)
STATE_WIPES: Final = Counter(
    "gapless_sequencer_state_wipes_total", "Local states thrown away as broken.", ["partition"]
)
STATUS: Final = Gauge(
    "gapless_sequencer_partition_status", "1 for the status that a partition has in this process.",
    ["partition", "status"],
)  # fmt: skip
UNSERVED: Final = Gauge(
    "gapless_sequencer_partitions_unserved",
    "Partitions that this process has to answer for and that are not served; readyz says why.",
)
CLOCK_SKEW_SECONDS: Final = Gauge(
    "gapless_sequencer_clock_skew_seconds",
    "This machine's clock less a broker's, when last compared; beyond the allowed skew the process does not serve.",
)
TERM: Final = Gauge("gapless_sequencer_term", "The term this process writes in, 0 when in none.", ["partition"])
DECIDED_OFFSET: Final = Gauge(
    "gapless_sequencer_decided_command_offset", "Offset of the last command decided, as this process knows.",
    ["partition"],
)  # fmt: skip
REPLIES_LOST: Final = Counter(
    "gapless_sequencer_replies_lost_total", "Replies given up; their waiters got 202 and can ask."
)
TRIMMED_TO: Final = Gauge(
    "gapless_sequencer_commands_trimmed_offset", "chat.commands was trimmed up to here.", ["partition"]
)
SNAPSHOT_TAKEN_AT: Final = Gauge(
    "gapless_sequencer_snapshot_taken_timestamp_seconds", "When this process last took a snapshot, in Unix time.",
    ["partition"],
)  # fmt: skip
SNAPSHOT_OFFSET: Final = Gauge(
    "gapless_sequencer_snapshot_offset", "Where it stands in the event log: the offset it is folded on from.",
    ["partition"],
)  # fmt: skip
SNAPSHOT_BYTES: Final = Gauge("gapless_sequencer_snapshot_bytes", "How large it is, all its files.", ["partition"])
SNAPSHOT_UPLOADED: Final = Counter(
    "gapless_sequencer_snapshot_uploaded_bytes_total", "Bytes of files that were not in the store already.",
    ["partition"],
)  # fmt: skip
SNAPSHOTS_FAILED: Final = Counter(
    "gapless_sequencer_snapshots_failed_total", "Snapshots that could not be taken or put into the store.",
    ["partition"],
)  # fmt: skip
SNAPSHOT_INSTALL_SECONDS: Final = Histogram(
    "gapless_sequencer_snapshot_install_seconds", "From looking for a snapshot until it was the state.",
    buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60),
)  # fmt: skip
SNAPSHOTS_REJECTED: Final = Counter(
    "gapless_sequencer_snapshots_rejected_total",
    "Snapshots that were of no use, by reason: torn, format, foreign, stale, missing, digest, state, used.",
    ["partition", "reason"],
)  # fmt: skip


def begin(partition: int) -> None:
    """Shows the counters of a partition at 0 from when it is ours: what was not there has no increase."""
    for counter in (
        TERMS_OPENED, STANDBY_TAKEOVERS, SUPERSEDED, UNKNOWN_RESULTS, VOID_RECORDS, FOLDED_RECORDS, STATE_WIPES,
        SNAPSHOT_UPLOADED, SNAPSHOTS_FAILED,
    ):  # fmt: skip
        counter.labels(partition)
    for kind in EventType:
        if kind is not EventType.TERM_OPENED:
            OUTCOMES.labels(partition, kind.value)
    for reason in RejectReason:
        SNAPSHOTS_REJECTED.labels(partition, reason.value)
