"""The arithmetic of a plan."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.projector.versions.plan import Plan, Sample, TableSize, _free_here, in_proportion


def _plan(**more: object) -> Plan:
    given: dict[str, object] = {
        "version": 2,
        "exists": None,
        "serving": 1,
        "next_offsets": {0: 0, 1: 400},
        "ends": {0: 600, 1: 800},
        "tables": (TableSize("chat_messages", 10, 5_000), TableSize("chats", 1, 1_000)),
        "there_bytes": 0,
        "free_bytes": None,
        "sample": Sample(records=100, rows=50, load_s=2.0, index_s=0.5),
        "processes": 4,
    }
    return Plan(**(given | more))  # type: ignore[arg-type]


def test_what_was_folded_before_is_neither_read_nor_loaded_again_but_is_indexed() -> None:
    plan = _plan()
    assert plan.records == 1_000
    assert plan.eta_s == (1_000 * 0.02 / 4 + 1_400 * 0.005, 1_000 * 0.02 + 1_400 * 0.005)


def test_the_disk_that_a_version_takes_already_is_not_needed_again() -> None:
    assert _plan(there_bytes=2_000).needed_bytes == 4_000
    assert _plan(there_bytes=9_000).needed_bytes == 0


def test_without_a_sample_no_time_is_claimed() -> None:
    assert _plan(sample=None).eta_s is None


def test_tables_grow_in_proportion_to_the_log() -> None:
    assert in_proportion((TableSize("chats", 3, 1_000),), 10, 40) == (TableSize("chats", 12, 4_000),)
    assert in_proportion((TableSize("chats", 3, 1_000),), 0, 40) == ()


def test_a_folder_of_another_server_says_nothing_about_the_free_space(tmp_path: Path) -> None:
    started = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    (tmp_path / "postmaster.pid").write_text(f"123\n{tmp_path}\n{int(started.timestamp())}\n5432\n", encoding="utf-8")
    assert _free_here(tmp_path, started) is not None
    assert _free_here(tmp_path, started + timedelta(minutes=1)) is None
    assert _free_here(tmp_path / "nowhere", started) is None
