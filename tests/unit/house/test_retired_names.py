"""Names that were replaced by the field's terms do not come back, in code, pages, settings, metrics or log events."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

from tests.unit.house.test_docs import ROOT

RETIRED: Final = {
    r"chat\.beats|(?<!HEART)BEAT_S|\b[Bb]eats?\b": "heartbeat",
    r"\bPresence\b|others_heard|false_alarms": "FailureDetector: peers_heard, false_suspicions",
    r"\bnext_word\b|\bnext_news\b|on_word\b|word_timeout": "OwnershipHint: wait_assignment, wait_change, on_assignment",
    r"\bremembered_of\b|\bAtHand\b|\bat_hand\b": "DedupEntry, pack_dedup, unpack_dedup; Prefetched",
    r"SnapshotShop|ShopAway|\b_?shop\b|snapshots_refused": "SnapshotStore, SnapshotStoreUnavailable, rejected",
    r"\bStoreBroken\b": "StateBroken",
    r"MarkMerger|MergedMark|marks_merged|mark_window": "ReceiptCoalescer, CoalescedReceipt, receipt_window",
    r"\bDirect(Route|Routes|Request|Answer)\b|\bNotDirect\b": "FastRoute, FastRequest, FastResponse, NotFastPath",
    r"\bPartitionFeed\b": "PartitionConsumer",
    r"\bjudge_records\b|\busual_event\b": "classify_records, decode_event",
    r"\bplain_send\b|\bPlainSend\b|decode_event_fast": "parse_body, MessageSend, decode_event",
    r"PinnedTables|\bunlawful\b|\bfault_count\b": "TableSnapshot, violations, violation_count",
    r"ReadModelAway|POSTGRES_AWAY|read_model_away|snapshots\.away": "unavailable",
    r"seldom_collected|warn_seldom": "infrequent_gc, warn_throttled",
    r"\.surprise\b|_surprises\b|\b_?MOST_[A-Z]": "unexpected_error, MAX_",
    r"\bLOOK_(AGAIN|EVERY)": "POLL_INTERVAL_S, CHECK_EVERY_S",
    r"waits_run_out|sequencer_called_total": "waits_timed_out, standby_takeovers",
}
"""Pattern → its replacement."""

ALLOWED: Final = re.compile(
    r"CHANGELOG\.md|docs/style\.md|benchmarks/results/|tests/unit/house/test_retired_names\.py|.*\.(svg|lock|png|ico)"
)


def tracked() -> list[Path]:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [
        ROOT / name for name in names.split("\0") if name and not ALLOWED.fullmatch(name) and not ALLOWED.match(name)
    ]


def test_no_retired_name_comes_back() -> None:
    patterns = {re.compile(pattern): new for pattern, new in RETIRED.items()}
    found = []
    for path in tracked():
        if not path.is_file():
            continue
        text = path.read_bytes().decode(errors="replace")
        for pattern, new in patterns.items():
            found += [f"{path.relative_to(ROOT)}: {match[0]!r} is now {new}" for match in pattern.finditer(text)]
    assert not found, "\n".join(found)
