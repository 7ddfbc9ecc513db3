"""Who is taken for silent, who is called, who stands by: from the order of the beats alone."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sequencer.peers.failure_detector import (
    ALLOWED_BEATS,
    CALM_BEATS,
    FORGOTTEN_BEATS,
    GONE_BEATS,
    MOST_PATIENCE,
    SILENT_BEATS,
    Presence,
)
from services.sequencer.peers.heartbeat import Beat, decode_beat, encode_beat

PARTITIONS: Final = range(64)
TERM: Final = 7
NUMBERS: Final = count(1)


def beat(
    name: str,
    serves: Mapping[int, int] | None = None,
    stands_by: frozenset[int] = frozenset(),
    *,
    leaving: bool = False,
    extra: bool = False,
    late: bool = False,
) -> Beat:
    return Beat(
        process=f"p-{name}",
        name=name,
        number=next(NUMBERS),
        serves=serves or {},
        stands_by=stands_by,
        leaving=leaving,
        extra=extra,
        late=late,
    )


def presence(name: str = "me", *, standbys: int = 1) -> Presence:
    return Presence(f"p-{name}", name, standbys=standbys)


def owner(*, leaving: bool = False) -> Beat:
    return beat("owner", {0: TERM}, leaving=leaving)


def own_beats(mine: Presence, times: int, name: str = "me") -> None:
    for _ in range(times):
        mine.heard(beat(name))


# --- silence --------------------------------------------------------------------------------------------------------


def test_a_process_is_silent_after_so_many_own_beats_without_one_of_its_own() -> None:
    mine = presence()
    mine.heard(owner())
    own_beats(mine, SILENT_BEATS - 1)
    assert not mine.calls(0, TERM)
    own_beats(mine, 1)
    assert mine.calls(0, TERM)
    mine.heard(owner())
    assert not mine.calls(0, TERM), "it was only slow"


def test_a_process_that_paused_finds_the_others_beats_before_its_own_and_judges_nobody() -> None:
    """Its backlog is in the topic's order: it sent nothing itself while it paused."""
    mine = presence()
    own_beats(mine, SILENT_BEATS - 1)
    for _ in range(100):
        mine.heard(owner())
    own_beats(mine, SILENT_BEATS - 1)
    assert not mine.calls(0, TERM)


def test_nobody_else_counts_for_us() -> None:
    """However much a third process says, silence is measured against one's own beats."""
    mine = presence()
    mine.heard(owner())
    for _ in range(100):
        mine.heard(beat("third"))
    assert not mine.calls(0, TERM)


def test_news_between_two_beats_is_no_time() -> None:
    mine = presence()
    mine.heard(owner())
    for _ in range(100):
        mine.heard(beat("me", extra=True))
    assert not mine.calls(0, TERM)


def test_after_a_late_beat_of_ones_own_the_others_have_longer() -> None:
    mine = presence()
    mine.heard(owner())
    own_beats(mine, SILENT_BEATS - 1)
    mine.heard(beat("me", late=True))
    own_beats(mine, ALLOWED_BEATS + SILENT_BEATS - 2)
    assert not mine.calls(0, TERM)
    own_beats(mine, 1)
    assert mine.calls(0, TERM), "longer, and not for ever"


def test_with_one_that_stalls_again_and_again_patience_doubles_and_comes_back() -> None:
    mine = presence()
    mine.heard(owner())
    for patience in (SILENT_BEATS, 2 * SILENT_BEATS, MOST_PATIENCE):
        own_beats(mine, patience - 1)
        assert not mine.calls(0, TERM), f"patience is {patience} now"
        own_beats(mine, 1)
        assert mine.calls(0, TERM)
        mine.heard(owner())
    assert mine.false_alarms == 2, "the last silence was too long for one who is only slow"
    for _ in range(8 * CALM_BEATS):
        own_beats(mine, 1)
        mine.heard(owner())
    own_beats(mine, SILENT_BEATS)
    assert mine.calls(0, TERM), "after quiet minutes it is as at first"


def test_one_that_stalls_every_two_seconds_for_ten_minutes_costs_one_takeover() -> None:
    """At the default pace: 0.9 s of silence, 1.1 s of beats."""
    mine = presence()
    calls, called = 0, False
    for _ in range(300):
        for step in range(13):
            own_beats(mine, 1)
            if step >= 6:
                mine.heard(owner())
            if mine.calls(0, TERM) and not called:
                calls += 1
            called = mine.calls(0, TERM)
    assert calls == 1


def test_one_that_was_gone_was_no_false_alarm() -> None:
    mine = presence()
    mine.heard(owner())
    own_beats(mine, GONE_BEATS)
    mine.heard(owner())
    own_beats(mine, SILENT_BEATS)
    assert mine.calls(0, TERM)
    assert mine.false_alarms == 0


def test_the_dead_are_forgotten() -> None:
    mine = presence()
    mine.heard(owner())
    own_beats(mine, FORGOTTEN_BEATS)
    assert not mine.calls(0, TERM)
    assert mine.announced(0) == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(1, SILENT_BEATS - 1)), max_size=60))
def test_one_that_speaks_at_least_now_and_then_is_never_taken_for_silent(runs: list[tuple[bool, int]]) -> None:
    """Any interleaving with fewer own beats between two of the other's than make silence."""
    mine = presence()
    mine.heard(owner())
    for late, times in runs:
        own_beats(mine, times - 1)
        mine.heard(beat("me", late=late))
        assert not mine.calls(0, TERM)
        mine.heard(owner())


def test_a_beat_that_lands_late_is_no_sign_of_life_and_no_time() -> None:
    mine = presence()
    former, stray = beat("owner", {0: TERM - 1}), beat("me")
    mine.heard(owner())
    own_beats(mine, SILENT_BEATS - 1)
    mine.heard(stray)
    assert not mine.calls(0, TERM)
    own_beats(mine, 1)
    mine.heard(former)
    assert mine.calls(0, TERM)
    assert not mine.calls(0, TERM - 1)


# --- calls ----------------------------------------------------------------------------------------------------------


def test_only_the_writer_of_the_term_in_the_log_counts() -> None:
    """Of a term that nobody announced nobody knows whether its writer lives: the group decides."""
    mine = presence()
    mine.heard(owner())
    own_beats(mine, SILENT_BEATS)
    assert mine.calls(0, TERM)
    assert not mine.calls(0, TERM + 1)
    assert not mine.calls(0, TERM - 1)
    assert not mine.calls(1, TERM)


def test_one_who_leaves_is_relieved_at_once() -> None:
    mine = presence()
    mine.heard(owner(leaving=True))
    assert mine.calls(0, TERM)


@pytest.mark.parametrize("leaves", [True, False])
def test_exactly_one_of_those_who_stand_by_is_called(leaves: bool) -> None:
    names = ("a", "b", "c")
    firsts = set()
    for partition in PARTITIONS:
        called = []
        for name in names:
            mine = presence(name)
            for other in names:
                mine.heard(beat(other, stands_by=frozenset(PARTITIONS)))
            mine.heard(beat("owner", {partition: TERM}, leaving=leaves))
            for _ in range(0 if leaves else SILENT_BEATS):
                for other in names:
                    mine.heard(beat(other, stands_by=frozenset(PARTITIONS)))
            called += [name] if mine.calls(partition, TERM) else []
        assert len(called) == 1, partition
        firsts.update(called)
    assert firsts == set(names), "each has its share"


def test_a_standby_that_is_silent_or_leaves_or_is_not_ready_stands_in_nobodys_way() -> None:
    for partition in PARTITIONS:
        mine = presence()
        mine.heard(beat("silent", stands_by=frozenset(PARTITIONS)))
        mine.heard(beat("owner", {partition: TERM}))
        own_beats(mine, SILENT_BEATS)
        mine.heard(beat("folding"))
        mine.heard(beat("leaving", stands_by=frozenset(PARTITIONS), leaving=True))
        assert mine.calls(partition, TERM)


# --- standing by ----------------------------------------------------------------------------------------------------


def standbys_of(partition: int, names: tuple[str, ...], *, standbys: int) -> set[str]:
    """Those of them that decide to stand by, each for itself; `owner` serves."""
    found = set()
    for name in names:
        mine = presence(name, standbys=standbys)
        for other in names:
            mine.heard(beat(other))
        mine.heard(beat("owner", {partition: TERM}))
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
    mine = presence()
    mine.heard(beat("other"))
    assert not mine.stands_by(0)


def test_the_owner_of_a_former_term_stands_by_for_the_one_of_the_later() -> None:
    mine = presence("former")
    mine.heard(beat("former", {0: TERM}))
    mine.heard(beat("owner", {0: TERM + 1}))
    assert mine.stands_by(0)


def test_a_stall_makes_nobody_else_fold() -> None:
    """Only who is gone is replaced as a standby: a fold from the beginning is dear."""
    for partition in PARTITIONS:
        mine = presence()
        mine.heard(beat("owner", {partition: TERM}))
        mine.heard(beat("stalls"))
        before = mine.stands_by(partition)
        for _ in range(GONE_BEATS - 1):
            own_beats(mine, 1)
            mine.heard(beat("owner", {partition: TERM}))
        assert mine.stands_by(partition) == before
        own_beats(mine, 1)
        assert mine.stands_by(partition)


# --- leaving --------------------------------------------------------------------------------------------------------


def test_one_who_leaves_waits_while_somebody_stands_by_and_until_somebody_writes() -> None:
    mine = presence("owner")
    assert mine.relieved(0, TERM), "nobody is there"
    mine.heard(beat("b", stands_by=frozenset({0})))
    assert not mine.relieved(0, TERM)
    assert mine.relieved(1, TERM), "nobody stands by for that one"
    mine.heard(beat("b", {0: TERM + 1}))
    assert mine.relieved(0, TERM)


def test_one_who_leaves_does_not_wait_for_the_silent_or_for_others_who_leave() -> None:
    mine = presence("owner")
    mine.heard(beat("b", stands_by=frozenset({0}), leaving=True))
    assert mine.relieved(0, TERM)
    mine.heard(beat("c", stands_by=frozenset({0})))
    assert not mine.relieved(0, TERM)
    own_beats(mine, SILENT_BEATS, "owner")
    assert mine.relieved(0, TERM)


def test_the_version_grows_with_every_answer_that_changes() -> None:
    mine = presence()

    def changed(heard: Beat) -> bool:
        before = mine.version
        mine.heard(heard)
        return mine.version != before

    assert changed(owner())
    assert not changed(owner())
    assert [changed(beat("me")) for _ in range(SILENT_BEATS)] == [False] * (SILENT_BEATS - 1) + [True]
    assert changed(owner())
    assert changed(owner(leaving=True))
    assert changed(beat("owner", {0: TERM, 1: 2}, leaving=True))
    assert changed(beat("owner", {0: TERM, 1: 2}, frozenset({3}), leaving=True))


# --- the record -----------------------------------------------------------------------------------------------------


@given(
    st.dictionaries(st.integers(0, 99), st.integers(1, 2**40)),
    st.frozensets(st.integers(0, 99)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_a_beat_is_read_as_it_was_written(
    serves: dict[int, int], stands_by: frozenset[int], leaving: bool, extra: bool, late: bool
) -> None:
    written = beat("a/slot-0", serves, stands_by, leaving=leaving, extra=extra, late=late)
    assert decode_beat(encode_beat(written)) == written


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"[]", b"null", b'"x"', b"\xff", b'{"process":"a","name":"b","number":1,"serves":[],"stands_by":[]}',
     b'{"process":"a","name":"b","number":1,"serves":{"x":1},"stands_by":[]}', b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_beat_is_told_by_one_error(raw: bytes) -> None:
    with pytest.raises(ValueError):
        decode_beat(raw)
