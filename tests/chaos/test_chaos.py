"""A bounded chaos run, for every change: three brokers, two of each service, and the nemesis."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.chaos.run import run

MINUTES = 2.0
SEED = 4


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_nothing_is_lost_doubled_or_out_of_order_whatever_is_killed_stalled_or_deleted(tmp_path: Path) -> None:
    result = asyncio.run(run(tmp_path, minutes=MINUTES, seed=SEED))
    print("\n".join(result.lines()))
    assert result.sound, f"seed {SEED}, evidence in {tmp_path}:\n" + "\n".join(result.lines())
    report, faults = result.report, result.faults
    # A run without faults shows nothing.
    assert faults["kill"] >= 3
    assert faults["stall"] >= 1
    assert faults["broker_kill"] + faults["broker_stall"] >= 1
    assert result.forged > 50
    assert report.terms > 8, "each partition has a first term; takeovers open others"
    assert report.outcomes["accepted"] > 100
    assert report.outcomes["duplicate"] > 10
    assert report.outcomes["rejected"] > 10
    assert report.answers > 200
    assert report.reads > 100
    assert report.tailed > 100
    for kind in ("threads", "replies", "edits", "reactions", "receipts", "search"):
        assert report.snapshots[kind] > 10, kind
    assert report.live["connections"] > 50
    assert report.live["frames"] > 500
    assert report.live["removals"] > 0
    assert report.live["copies"] == 4
