"""Which process reports a partition that no process serves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.sequencer.partition.writer import Status
from services.sequencer.responsibility import ORPHANED_AFTER_S, PartitionView, Responsibility

OURS = PartitionView(status=Status.SERVING, reason=None, assigned=True, served_elsewhere=False)
LONG_S = ORPHANED_AFTER_S + 0.1


def troubles(responsibility: Responsibility, view: PartitionView, now_s: float) -> dict[int, str]:
    return responsibility.troubles({3: view}, now_s)


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.SERVING])
def test_a_partition_that_the_group_gave_us_is_our_trouble_until_it_is_served(status: Status) -> None:
    """Even while the group is silent: its last assignment counts, and not whether it holds right now."""
    responsibility = Responsibility(hears_peers=True)
    waiting = replace(OURS, status=status, reason="no acknowledgement")
    assert troubles(responsibility, waiting, 0) == {3: f"partition 3 is {status}: no acknowledgement"}
    assert troubles(responsibility, OURS, 1) == {}


def test_a_partition_that_we_served_and_nobody_serves_is_our_trouble_after_a_moment() -> None:
    responsibility = Responsibility(hears_peers=True)
    assert troubles(responsibility, OURS, 0) == {}
    let_go = replace(OURS, status=Status.WAITING, assigned=False)
    assert troubles(responsibility, let_go, 10) == {}, "a takeover has time"
    (said,) = troubles(responsibility, let_go, 10 + LONG_S).values()
    assert said == "partition 3 was served by this process, and no sequencer is heard to serve it now"


def test_it_is_the_others_trouble_once_another_was_heard_to_serve_it() -> None:
    responsibility = Responsibility(hears_peers=True)
    troubles(responsibility, OURS, 0)
    let_go = replace(OURS, status=Status.STANDING_BY, assigned=False)
    assert troubles(responsibility, replace(let_go, served_elsewhere=True), 1) == {}
    assert troubles(responsibility, let_go, 1 + 10 * LONG_S) == {}


def test_a_partition_that_was_never_ours_is_not_our_trouble() -> None:
    responsibility = Responsibility(hears_peers=True)
    standby = replace(OURS, status=Status.STANDING_BY, assigned=False)
    for now_s in (0, 10 * LONG_S):
        assert troubles(responsibility, standby, now_s) == {}


def test_a_stopped_partition_is_trouble_wherever_it_is() -> None:
    stopped = replace(OURS, status=Status.STOPPED, reason="LogCorrupt", assigned=False)
    assert troubles(Responsibility(hears_peers=True), stopped, 0) == {3: "partition 3 is stopped: LogCorrupt"}


def test_without_heartbeats_the_group_alone_says_whose_it_is() -> None:
    responsibility = Responsibility(hears_peers=False)
    troubles(responsibility, OURS, 0)
    assert troubles(responsibility, replace(OURS, status=Status.WAITING, assigned=False), 10 * LONG_S) == {}
