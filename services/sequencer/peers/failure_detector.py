"""Who is there, who writes where, who fell silent: what the beats of all sequencers say to one of them. Pure.

Time is counted in one's own beats as they come back among the others', in the order of the topic, and by no clock. So
whoever pauses, lags or has lost the topic counts nothing against anybody (docs/decisions/0013-standbys-and-beats.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from services.sequencer.peers.heartbeat import Beat

SILENT_BEATS: Final = 5
"""Own beats without one of another's: then it is silent. 600 to 750 ms at the default pace."""
ALLOWED_BEATS: Final = 15
"""So many more after an own beat that came late: the other may meet the same trouble a moment later."""
MOST_PATIENCE: Final = 20
"""Beats: as long as the group's session, so that with someone who stalls all the time the group decides."""
CALM_BEATS: Final = 400
"""Own beats after which patience with someone who has not stalled since is halved: a minute."""
GONE_BEATS: Final = 13
"""Own beats after which a process was gone, not slow: two seconds. It is no longer counted on as a standby (before, it
is: a stall shall not make others fold), and to have taken it for silent was right."""
FORGOTTEN_BEATS: Final = 400
"""Own beats after which a silent process is forgotten: the group has given its partitions away long ago."""


@dataclass(slots=True)
class _Other:
    """Another process, as it last spoke."""

    beat: Beat
    missed: int = 0
    """Own beats since; below zero where it is allowed to be late."""
    patience: int = SILENT_BEATS
    calm: int = 0
    """Own beats since it came, or since a silence for which half the patience would have been too little."""
    silent: bool = False

    @property
    def takes_over(self) -> bool:
        return not (self.silent or self.beat.leaving)

    @property
    def stands_by(self) -> bool:
        return self.missed < GONE_BEATS and not self.beat.leaving


class Presence:
    """Told of each beat in the order of the topic, its own among them."""

    def __init__(self, process: str, name: str, *, standbys: int) -> None:
        """`process` and `name` as in its own beats; `standbys` is how many stand by for each partition."""
        self._process = process
        self._name = name
        self._standbys = standbys
        self._others: dict[str, _Other] = {}
        self._own_number = 0
        """Of the last of our own beats that we heard."""
        self.version = 0
        """Grows whenever an answer may have changed."""
        self.false_alarms = 0
        """Processes that were taken for silent and were only slow."""

    @property
    def others(self) -> int:
        """How many are heard."""
        return sum(1 for other in self._others.values() if not other.silent)

    def heard(self, beat: Beat) -> None:
        """The next beat of the topic. One that an append left behind and that lands late says nothing."""
        if beat.process != self._process:
            self._heard_other(beat)
        elif beat.number > self._own_number:
            self._own_number = beat.number
            if not beat.extra:
                for other in list(self._others.values()):
                    self._missed(other, late=beat.late)

    def _heard_other(self, beat: Beat) -> None:
        other = self._others.get(beat.process)
        if other is None:
            self._others[beat.process] = _Other(beat)
            self.version += 1
            return
        if beat.number <= other.beat.number:
            return
        news = other.missed >= GONE_BEATS or _says(beat) != _says(other.beat)
        if other.missed >= other.patience // 2:
            other.calm = 0  # with half the patience it would have been silent
        if other.silent and other.missed < GONE_BEATS:
            self.false_alarms += 1
            other.patience = min(2 * other.patience, MOST_PATIENCE)
        news = news or other.silent
        other.silent = False
        other.beat = beat
        other.missed = 0
        if news:
            self.version += 1

    def _missed(self, other: _Other, *, late: bool) -> None:
        other.calm += 1
        if other.calm >= CALM_BEATS:
            other.calm = 0
            other.patience = max(SILENT_BEATS, other.patience // 2)
        if late and not other.silent:
            other.missed = -ALLOWED_BEATS
        other.missed += 1
        if other.missed >= other.patience and not other.silent:
            other.silent = True
            self.version += 1
        if other.missed == GONE_BEATS:
            self.version += 1
        if other.missed >= FORGOTTEN_BEATS:
            del self._others[other.beat.process]
            self.version += 1

    # --- what follows from it -------------------------------------------------------------------------------------

    def announced(self, partition: int) -> int:
        """The latest term in which another said that it serves there; 0: none."""
        return max((other.beat.serves.get(partition, 0) for other in self._others.values()), default=0)

    def served(self, partition: int) -> bool:
        """Whether another process that can be heard says that it serves there."""
        return any(other.takes_over and partition in other.beat.serves for other in self._others.values())

    def calls(self, partition: int, term: int) -> bool:
        """Whether we are to open a term there, `term` being the one that stands in the log and we standing by: its
        writer is silent or leaves, and no other standby comes before us."""
        if all(other.takes_over for other in self._serving(partition, term)):
            return False  # nobody announced it, or whoever did is well
        ours = _rank(partition, self._name, self._process)
        return all(
            ours < _rank(partition, other.beat.name, other.beat.process)
            for other in self._others.values()
            if other.takes_over and partition in other.beat.stands_by
        )

    def stands_by(self, partition: int) -> bool:
        """Whether we are to fold along there: another serves it, and few enough come before us."""
        newest = self.announced(partition)
        if newest == 0:
            return False
        ours = _rank(partition, self._name, self._process)
        before = [
            other
            for other in self._others.values()
            if other.stands_by
            and other.beat.serves.get(partition) != newest
            and _rank(partition, other.beat.name, other.beat.process) < ours
        ]
        return len(before) < self._standbys

    def relieved(self, partition: int, term: int) -> bool:
        """Whether one who leaves need not wait any longer: another writes in a later term, or nobody stands by."""
        well = [other.beat for other in self._others.values() if other.takes_over]
        return any(beat.serves.get(partition, 0) > term for beat in well) or not any(
            partition in beat.stands_by for beat in well
        )

    def _serving(self, partition: int, term: int) -> Iterator[_Other]:
        return (other for other in self._others.values() if other.beat.serves.get(partition) == term)


def _says(beat: Beat) -> tuple[object, ...]:
    return beat.serves, beat.stands_by, beat.leaving


def _rank(partition: int, name: str, process: str) -> tuple[bytes, str]:
    """Rendezvous hashing: each partition has its own order of the processes, in which nobody else moves when one
    comes or goes."""
    return blake2b(f"{partition}/{name}".encode(), digest_size=8).digest(), process
