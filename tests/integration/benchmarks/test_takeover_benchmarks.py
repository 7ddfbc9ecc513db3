"""The benchmarks of takeover and standby run once at a tiny size, so that they cannot rot. Nothing is timed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.run import standby, takeover
from benchmarks.servers.ground import Ground

pytestmark = pytest.mark.proof


def test_a_takeover_is_measured_from_the_signal_to_the_next_owners_outcome(tmp_path: Path) -> None:
    figures = asyncio.run(takeover.run(rounds=1, ways=("kill", "term"), folder=tmp_path)).document()
    for way in ("kill", "term"):
        (measured,) = figures["ways"][way]["each"]
        assert 0 < measured["opened_s"] <= measured["first_outcome_s"] < takeover.DEADLINE_S
        assert measured["silence_s"] > 0
    assert figures["ways"].keys() == {"kill", "term"}


def test_what_standing_by_costs_is_measured_with_all_of_it_folded(kafka: str, postgres: str, tmp_path: Path) -> None:
    ground = Ground(kafka, postgres, tmp_path, broker_pid=None, postgres_pid=None)
    options = standby.Options(commands=200, chats=8, partitions=2, idle_s=0.5, rounds=1)
    figures = asyncio.run(standby.run(options, ground))
    assert [p.standby for p in figures.passes] == [0, 1]
    assert figures.cpu_us_per_command > 0
    assert figures.memory_mb > 0
