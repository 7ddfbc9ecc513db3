"""The production writer in a simulated world: whatever happens there, no promise is broken, and it recovers.

pytest tests/simulation --seeds 50000       # more of it
pytest tests/simulation --seed 1234 -s      # one run again, with its story
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.simulation.mutations import MUTATIONS, seeded
from tests.simulation.plan import Plan
from tests.simulation.run import Failed, Report, run
from tests.support.simulated_rocks import RocksDisk
from tests.support.simulated_snapshots import Shelf
from tests.support.ways import compares

SEEDS_PER_MUTATION = 500
SEEDS_ON_ROCKSDB = 25
RARE = ("missing commands are believed",)
"""Mistakes that only hundreds of seeds find."""
HAPPENS = (
    "accepted", "edits", "deletions", "returns", "chats by key", "roles",
    "duplicate", "unchanged", "rejected", "void records", "rebalances", "kills", "power cuts",
    "pauses", "restarts", "starts", "trims", "slow", "unavailable", "read nothing", "read short", "refused", "lost",
    "unacknowledged", "misplaced", "copied", "broken store", "state.wiped", "term.opened", "term.superseded",
    "term.ended", "folds through", "folds through, and goes on", "looks for a later term",
    "looks for a later term, and goes on", "states compared",
    "standby.began", "standby.takes_over", "takeovers without a word",
    "snapshots installed", "snapshots refused", "snapshots away",
)  # fmt: skip
"""What must have happened in a thousand runs; otherwise they cover less than they seem to."""


@pytest.mark.proof
@pytest.mark.timeout(3_600)  # against a hang only: the seeds take minutes, and many more on a busy machine
def test_no_seed_breaks_a_promise_and_each_comes_right(seeds: range, tells_all: bool) -> None:
    began_s, used_s = time.perf_counter(), time.process_time()
    figures: Counter[str] = Counter()
    recovered_s = 0.0
    for seed in seeds:
        report = _run(seed)
        figures.update(report.figures)
        recovered_s = max(recovered_s, report.recovered_s)
    took_s, used_s = time.perf_counter() - began_s, time.process_time() - used_s
    print(
        f"\n{len(seeds):,} seeds in {took_s:.1f} s ({60 * len(seeds) / took_s:,.0f} a minute;"
        f" {60 * len(seeds) / used_s:,.0f} a minute of one core);"
        f" longest way back {recovered_s:.1f} simulated seconds"
    )
    print(", ".join(f"{count:,} {what}" for what, count in sorted(figures.items())))
    if tells_all:
        print("\n".join(report.trace))
    if len(seeds) >= 1_000:
        assert not [what for what in HAPPENS if not figures[what]]


def test_a_seed_is_one_run_and_no_other() -> None:
    hashes = [_run(seed).trace_hash for seed in range(10)]
    assert [_run(seed).trace_hash for seed in range(10)] == hashes
    assert len(set(hashes)) == 10


@pytest.mark.parametrize("hash_seed", ["0", "7"])
def test_a_seed_is_the_same_run_in_another_process(hash_seed: str) -> None:
    program = "from tests.simulation.run import run; print(*(run(s).trace_hash for s in range(4)))"
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
    elsewhere = subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert elsewhere.stdout.split() == [_run(seed).trace_hash for seed in range(4)]


def test_states_on_rocksdb_survive_what_machines_do_to_them(tmp_path: Path) -> None:
    """The same runs on real RocksDB folders: killed, torn, restored from an older copy."""
    figures: Counter[str] = Counter()
    for seed in range(SEEDS_ON_ROCKSDB):

        def disk(number: int, shelf: Shelf, seed: int = seed) -> RocksDisk:
            return RocksDisk(Random(f"disk {number} {seed}"), tmp_path / f"{seed}-{number}", shelf)

        try:
            figures.update(run(seed, disk=disk).figures)
        except Failed as failed:
            pytest.fail(f"on RocksDB, {failed.story()}", pytrace=False)
    assert figures["kills"]
    assert figures["states compared"]
    assert figures["snapshots installed"]


@compares
@pytest.mark.parametrize("count", [10, pytest.param(60, marks=pytest.mark.proof)])
def test_a_seed_is_the_same_run_where_compiled_code_reads_decides_and_writes(count: int) -> None:
    """Record for record, reply for reply, through every fault."""
    decided, short = 0, 0
    for seed in range(count):
        plan = replace(Plan.of(Random(f"plan {seed}")), versions_differ=False)  # the compiled code has one contract
        try:
            plain, compiled = (run(seed, plan=plan, of_bytes=of_bytes) for of_bytes in (False, True))
        except Failed as failed:
            pytest.fail(failed.story(), pytrace=False)
        assert compiled.trace == plain.trace, f"seed {seed}"
        decided += plain.figures["decided"]
        short += plain.figures["decided"] - compiled.figures["decided"]
    print(f"{short:,} of {decided:,} commands on the fast path")
    assert short > decided / 15, "else this shows little"


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=pytest.mark.proof) if each in RARE else each for each in MUTATIONS]
)
def test_a_mistake_in_the_production_code_is_found(name: str) -> None:
    with seeded(MUTATIONS[name]):
        for seed in range(SEEDS_PER_MUTATION):
            try:
                run(seed)
            except Failed as failed:
                print(f"{name}: seed {seed}: {failed.what}")
                return
    pytest.fail(f"{SEEDS_PER_MUTATION} seeds did not find this: {name}", pytrace=False)


def _run(seed: int) -> Report:
    try:
        return run(seed)
    except Failed as failed:
        pytest.fail(failed.story(), pytrace=False)
