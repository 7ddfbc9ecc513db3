"""What a rebuild says about its progress."""

from __future__ import annotations

from services.ops.cli.plan import duration
from services.ops.cli.rebuild import progress_line, share
from services.projector.versions.rebuild import RebuildProgress, Stage


def _now(**more: object) -> RebuildProgress:
    given: dict[str, object] = {
        "stage": Stage.LOAD, "records_before": 600, "records_done": 100, "records_total": 400, "rows": 1,
        "seconds": 10.0,
    }  # fmt: skip
    return RebuildProgress(**(given | more))  # type: ignore[arg-type]


def test_earlier_runs_count_for_the_share_and_not_for_the_rate() -> None:
    assert progress_line("v2", _now()) == ("v2: load, 70.0 %, 700 of 1,000 records, 10/s, left: 30 s, then the indexes")


def test_no_time_is_claimed_before_one_percent_of_this_run() -> None:
    assert "left: ?, then the indexes" in progress_line("v2", _now(records_done=3))
    assert _now(records_done=4).eta_s == 990.0


def test_the_time_that_indexes_take_is_not_known() -> None:
    line = progress_line("v2", _now(stage=Stage.INDEX, records_done=400, index="outcomes_command"))
    assert line == "v2: index outcomes_command, 100 %, 1,000 of 1,000 records, 40/s, left: ?"


def test_a_rebuild_that_waits_says_for_what() -> None:
    line = progress_line("v2", _now(waits_for_lag=12_345))
    assert line.endswith("; waits: the serving projection has 12,345 events to apply")


def test_a_share_is_whole_only_if_nothing_is_left() -> None:
    assert (share(0, 0), share(999_999, 1_000_000), share(5, 5)) == ("100 %", "99.9 %", "100 %")


def test_a_duration_is_written_in_the_unit_that_people_would_use() -> None:
    assert [duration(s) for s in (0.4, 89, 90, 5_300, 19_800)] == ["0 s", "89 s", "2 min", "88 min", "5 h 30 min"]
