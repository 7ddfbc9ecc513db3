"""Which process counts as silent, which one takes over, which one is a standby: from the order of heartbeats alone."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sequencer.peers.failure_detector import (
    CALM_AFTER,
    FORGOTTEN_AFTER,
    GONE_AFTER,
    LATE_ALLOWANCE,
    MAX_PATIENCE,
    SUSPECTED_AFTER,
    FailureDetector,
)
from services.sequencer.peers.heartbeat import Heartbeat, decode_heartbeat, encode_heartbeat

PARTITIONS: Final = range(64)
TERM: Final = 7
NUMBERS: Final = count(1)


def heartbeat(
    name: str,
    serves: Mapping[int, int] | None = None,
    stands_by: frozenset[int] = frozenset(),
    *,
    leaving: bool = False,
    extra: bool = False,
    late: bool = False,
) -> Heartbeat:
    return Heartbeat(
        process=f"p-{name}",
        name=name,
        number=next(NUMBERS),
        serves=serves or {},
        stands_by=stands_by,
        leaving=leaving,
        extra=extra,
        late=late,
    )


def detector(name: str = "me", *, standbys: int = 1) -> FailureDetector:
    return FailureDetector(f"p-{name}", name, standbys=standbys)


def owner(*, leaving: bool = False) -> Heartbeat:
    return heartbeat("owner", {0: TERM}, leaving=leaving)


def own_heartbeats(mine: FailureDetector, times: int, name: str = "me") -> None:
    for _ in range(times):
        mine.observe(heartbeat(name))


# --- silence --------------------------------------------------------------------------------------------------------


def test_a_process_is_silent_after_so_many_own_heartbeats_without_one_of_its_own() -> None:
    mine = detector()
    mine.observe(owner())
    own_heartbeats(mine, SUSPECTED_AFTER - 1)
    assert not mine.should_take_over(0, TERM)
    own_heartbeats(mine, 1)
    assert mine.should_take_over(0, TERM)
    mine.observe(owner())
    assert not mine.should_take_over(0, TERM), "it was only slow"


def test_a_process_that_paused_finds_the_others_heartbeats_before_its_own_and_judges_nobody() -> None:
    """Its backlog is in the topic's order: it sent nothing itself while it paused."""
    mine = detector()
    own_heartbeats(mine, SUSPECTED_AFTER - 1)
    for _ in range(100):
        mine.observe(owner())
    own_heartbeats(mine, SUSPECTED_AFTER - 1)
    assert not mine.should_take_over(0, TERM)


def test_nobody_else_counts_for_us() -> None:
    """However much a third process sends, silence is measured against one's own heartbeats."""
    mine = detector()
    mine.observe(owner())
    for _ in range(100):
        mine.observe(heartbeat("third"))
    assert not mine.should_take_over(0, TERM)


def test_news_between_two_heartbeats_is_no_time() -> None:
    mine = detector()
    mine.observe(owner())
    for _ in range(100):
        mine.observe(heartbeat("me", extra=True))
    assert not mine.should_take_over(0, TERM)


def test_after_a_late_heartbeat_of_ones_own_the_others_have_longer() -> None:
    mine = detector()
    mine.observe(owner())
    own_heartbeats(mine, SUSPECTED_AFTER - 1)
    mine.observe(heartbeat("me", late=True))
    own_heartbeats(mine, LATE_ALLOWANCE + SUSPECTED_AFTER - 2)
    assert not mine.should_take_over(0, TERM)
    own_heartbeats(mine, 1)
    assert mine.should_take_over(0, TERM), "longer, and not for ever"


def test_with_one_that_stalls_again_and_again_patience_doubles_and_comes_back() -> None:
    mine = detector()
    mine.observe(owner())
    for patience in (SUSPECTED_AFTER, 2 * SUSPECTED_AFTER, MAX_PATIENCE):
        own_heartbeats(mine, patience - 1)
        assert not mine.should_take_over(0, TERM), f"patience is {patience} now"
        own_heartbeats(mine, 1)
        assert mine.should_take_over(0, TERM)
        mine.observe(owner())
    assert mine.false_suspicions == 2, "the last silence was too long for one who is only slow"
    for _ in range(8 * CALM_AFTER):
        own_heartbeats(mine, 1)
        mine.observe(owner())
    own_heartbeats(mine, SUSPECTED_AFTER)
    assert mine.should_take_over(0, TERM), "after quiet minutes it is as at first"


def test_one_that_stalls_every_two_seconds_for_ten_minutes_costs_one_takeover() -> None:
    """At the default pace: 0.9 s of silence, 1.1 s of heartbeats."""
    mine = detector()
    calls, called = 0, False
    for _ in range(300):
        for step in range(13):
            own_heartbeats(mine, 1)
            if step >= 6:
                mine.observe(owner())
            if mine.should_take_over(0, TERM) and not called:
                calls += 1
            called = mine.should_take_over(0, TERM)
    assert calls == 1


def test_one_that_was_gone_was_no_false_alarm() -> None:
    mine = detector()
    mine.observe(owner())
    own_heartbeats(mine, GONE_AFTER)
    mine.observe(owner())
    own_heartbeats(mine, SUSPECTED_AFTER)
    assert mine.should_take_over(0, TERM)
    assert mine.false_suspicions == 0


def test_the_dead_are_forgotten() -> None:
    mine = detector()
    mine.observe(owner())
    own_heartbeats(mine, FORGOTTEN_AFTER)
    assert not mine.should_take_over(0, TERM)
    assert mine.announced(0) == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(1, SUSPECTED_AFTER - 1)), max_size=60))
def test_one_that_speaks_at_least_now_and_then_is_never_taken_for_silent(runs: list[tuple[bool, int]]) -> None:
    """Any interleaving with fewer own heartbeats between two of the other's than count as silence."""
    mine = detector()
    mine.observe(owner())
    for late, times in runs:
        own_heartbeats(mine, times - 1)
        mine.observe(heartbeat("me", late=late))
        assert not mine.should_take_over(0, TERM)
        mine.observe(owner())


def test_a_heartbeat_that_lands_late_is_no_sign_of_life_and_no_time() -> None:
    mine = detector()
    former, stray = heartbeat("owner", {0: TERM - 1}), heartbeat("me")
    mine.observe(owner())
    own_heartbeats(mine, SUSPECTED_AFTER - 1)
    mine.observe(stray)
    assert not mine.should_take_over(0, TERM)
    own_heartbeats(mine, 1)
    mine.observe(former)
    assert mine.should_take_over(0, TERM)
    assert not mine.should_take_over(0, TERM - 1)


# --- calls ----------------------------------------------------------------------------------------------------------


def test_only_the_writer_of_the_term_in_the_log_counts() -> None:
    """If no process announced a term, none knows whether its writer lives: the group decides."""
    mine = detector()
    mine.observe(owner())
    own_heartbeats(mine, SUSPECTED_AFTER)
    assert mine.should_take_over(0, TERM)
    assert not mine.should_take_over(0, TERM + 1)
    assert not mine.should_take_over(0, TERM - 1)
    assert not mine.should_take_over(1, TERM)


def test_one_who_leaves_is_relieved_at_once() -> None:
    mine = detector()
    mine.observe(owner(leaving=True))
    assert mine.should_take_over(0, TERM)


@pytest.mark.parametrize("leaves", [True, False])
def test_exactly_one_of_those_who_stand_by_is_called(leaves: bool) -> None:
    names = ("a", "b", "c")
    firsts = set()
    for partition in PARTITIONS:
        called = []
        for name in names:
            mine = detector(name)
            for other in names:
                mine.observe(heartbeat(other, stands_by=frozenset(PARTITIONS)))
            mine.observe(heartbeat("owner", {partition: TERM}, leaving=leaves))
            for _ in range(0 if leaves else SUSPECTED_AFTER):
                for other in names:
                    mine.observe(heartbeat(other, stands_by=frozenset(PARTITIONS)))
            called += [name] if mine.should_take_over(partition, TERM) else []
        assert len(called) == 1, partition
        firsts.update(called)
    assert firsts == set(names), "each has its share"


def test_a_standby_that_is_silent_or_leaves_or_is_not_ready_stands_in_nobodys_way() -> None:
    for partition in PARTITIONS:
        mine = detector()
        mine.observe(heartbeat("silent", stands_by=frozenset(PARTITIONS)))
        mine.observe(heartbeat("owner", {partition: TERM}))
        own_heartbeats(mine, SUSPECTED_AFTER)
        mine.observe(heartbeat("folding"))
        mine.observe(heartbeat("leaving", stands_by=frozenset(PARTITIONS), leaving=True))
        assert mine.should_take_over(partition, TERM)


# --- standing by ----------------------------------------------------------------------------------------------------


def standbys_of(partition: int, names: tuple[str, ...], *, standbys: int) -> set[str]:
    """Return the processes that decide to stand by, each for itself; `owner` serves."""
    found = set()
    for name in names:
        mine = detector(name, standbys=standbys)
        for other in names:
            mine.observe(heartbeat(other))
        mine.observe(heartbeat("owner", {partition: TERM}))
        if mine.stands_by(partition):
            found.add(name)
    return found


@pytest.mark.parametrize("standbys", [0, 1, 2, 3])
def test_as_many_stand_by_as_the_setting_says(standbys: int) -> None:
    names = ("a", "b", "c", "d")
    chosen = [standbys_of(partition, names, standbys=standbys) for partition in PARTITIONS]
    assert {len(each) for each in chosen} == {standbys}
    assert set().union(*chosen) == (set(names) if standbys else set())


def test_who_comes_takes_places_and_moves_nobody_else() -> None:
    for partition in PARTITIONS:
        (before,) = standbys_of(partition, ("a", "b", "c"), standbys=1)
        (after,) = standbys_of(partition, ("a", "b", "c", "d"), standbys=1)
        assert after in (before, "d")


def test_nobody_stands_by_where_nobody_serves() -> None:
    mine = detector()
    mine.observe(heartbeat("other"))
    assert not mine.stands_by(0)


def test_the_owner_of_a_former_term_stands_by_for_the_one_of_the_later() -> None:
    mine = detector("former")
    mine.observe(heartbeat("former", {0: TERM}))
    mine.observe(heartbeat("owner", {0: TERM + 1}))
    assert mine.stands_by(0)


def test_a_stall_makes_nobody_else_fold() -> None:
    """Only a process that is gone is replaced as a standby: a fold from the beginning is expensive."""
    for partition in PARTITIONS:
        mine = detector()
        mine.observe(heartbeat("owner", {partition: TERM}))
        mine.observe(heartbeat("stalls"))
        before = mine.stands_by(partition)
        for _ in range(GONE_AFTER - 1):
            own_heartbeats(mine, 1)
            mine.observe(heartbeat("owner", {partition: TERM}))
        assert mine.stands_by(partition) == before
        own_heartbeats(mine, 1)
        assert mine.stands_by(partition)


# --- leaving --------------------------------------------------------------------------------------------------------


def test_one_who_leaves_waits_while_somebody_stands_by_and_until_somebody_writes() -> None:
    mine = detector("owner")
    assert mine.succeeded(0, TERM), "nobody is there"
    mine.observe(heartbeat("b", stands_by=frozenset({0})))
    assert not mine.succeeded(0, TERM)
    assert mine.succeeded(1, TERM), "nobody stands by for that one"
    mine.observe(heartbeat("b", {0: TERM + 1}))
    assert mine.succeeded(0, TERM)


def test_one_who_leaves_does_not_wait_for_the_silent_or_for_others_who_leave() -> None:
    mine = detector("owner")
    mine.observe(heartbeat("b", stands_by=frozenset({0}), leaving=True))
    assert mine.succeeded(0, TERM)
    mine.observe(heartbeat("c", stands_by=frozenset({0})))
    assert not mine.succeeded(0, TERM)
    own_heartbeats(mine, SUSPECTED_AFTER, "owner")
    assert mine.succeeded(0, TERM)


def test_the_version_grows_with_every_answer_that_changes() -> None:
    mine = detector()

    def changed(heard: Heartbeat) -> bool:
        before = mine.version
        mine.observe(heard)
        return mine.version != before

    assert changed(owner())
    assert not changed(owner())
    assert [changed(heartbeat("me")) for _ in range(SUSPECTED_AFTER)] == [False] * (SUSPECTED_AFTER - 1) + [True]
    assert changed(owner())
    assert changed(owner(leaving=True))
    assert changed(heartbeat("owner", {0: TERM, 1: 2}, leaving=True))
    assert changed(heartbeat("owner", {0: TERM, 1: 2}, frozenset({3}), leaving=True))


# --- the record -----------------------------------------------------------------------------------------------------


@given(
    st.dictionaries(st.integers(0, 99), st.integers(1, 2**40)),
    st.frozensets(st.integers(0, 99)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_a_heartbeat_is_read_as_it_was_written(
    serves: dict[int, int], stands_by: frozenset[int], leaving: bool, extra: bool, late: bool
) -> None:
    written = heartbeat("a/slot-0", serves, stands_by, leaving=leaving, extra=extra, late=late)
    assert decode_heartbeat(encode_heartbeat(written)) == written


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"[]", b"null", b'"x"', b"\xff", b'{"process":"a","name":"b","number":1,"serves":[],"stands_by":[]}',
     b'{"process":"a","name":"b","number":1,"serves":{"x":1},"stands_by":[]}', b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_heartbeat_is_told_by_one_error(raw: bytes) -> None:
    with pytest.raises(ValueError):
        decode_heartbeat(raw)
