"""Who is there, who writes where, who fell silent: what the heartbeats of all sequencers say to one of them. Pure.

Time is counted in a process's own heartbeats as they come back among its peers', in the order of the topic, not by a
clock. A process that pauses, lags or has lost the topic suspects no peer
(docs/decisions/0013-standbys-and-heartbeats.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from services.sequencer.peers.heartbeat import Heartbeat

SUSPECTED_AFTER: Final = 5
"""Own heartbeats without one of another's: then it is silent. 600 to 750 ms at the default pace."""
LATE_ALLOWANCE: Final = 15
"""So many more after an own heartbeat that came late: the other may meet the same trouble a moment later."""
MAX_PATIENCE: Final = 20
"""Heartbeats: as long as the group's session, so that with someone who stalls all the time the group decides."""
CALM_AFTER: Final = 400
"""Own heartbeats after which patience with someone who has not stalled since is halved: a minute."""
GONE_AFTER: Final = 13
"""Own heartbeats after which a peer counts as gone, not slow: two seconds. Until then it counts as a standby, so that
a stall does not make other processes fold; afterwards, the suspicion was right."""
FORGOTTEN_AFTER: Final = 400
"""Own heartbeats after which a silent process is forgotten: the group has given its partitions away long ago."""


@dataclass(slots=True)
class _Peer:
    """Another process, as it last spoke."""

    heartbeat: Heartbeat
    missed: int = 0
    """Own heartbeats since; below zero where it is allowed to be late."""
    patience: int = SUSPECTED_AFTER
    calm: int = 0
    """Own heartbeats since it came, or since a silence for which half the patience would have been too little."""
    suspected: bool = False

    @property
    def takes_over(self) -> bool:
        return not (self.suspected or self.heartbeat.leaving)

    @property
    def stands_by(self) -> bool:
        return self.missed < GONE_AFTER and not self.heartbeat.leaving


class FailureDetector:
    """Told of each heartbeat in the order of the topic, its own among them."""

    def __init__(self, process: str, name: str, *, standbys: int) -> None:
        """`process` and `name` as in its own heartbeats; `standbys` is how many stand by for each partition."""
        self._process = process
        self._name = name
        self._standbys = standbys
        self._peers: dict[str, _Peer] = {}
        self._own_number = 0
        """Of the last of our own heartbeats that we heard."""
        self.version = 0
        """Grows whenever an answer may have changed."""
        self.false_suspicions = 0
        """Processes that were taken for silent and were only slow."""

    @property
    def live_peers(self) -> int:
        """How many are heard."""
        return sum(1 for peer in self._peers.values() if not peer.suspected)

    def observe(self, heartbeat: Heartbeat) -> None:
        """The next heartbeat of the topic. One that an append left behind and that lands late says nothing."""
        if heartbeat.process != self._process:
            self._observe_peer(heartbeat)
        elif heartbeat.number > self._own_number:
            self._own_number = heartbeat.number
            if not heartbeat.extra:
                for peer in list(self._peers.values()):
                    self._missed(peer, late=heartbeat.late)

    def _observe_peer(self, heartbeat: Heartbeat) -> None:
        peer = self._peers.get(heartbeat.process)
        if peer is None:
            self._peers[heartbeat.process] = _Peer(heartbeat)
            self.version += 1
            return
        if heartbeat.number <= peer.heartbeat.number:
            return
        news = peer.missed >= GONE_AFTER or _says(heartbeat) != _says(peer.heartbeat)
        if peer.missed >= peer.patience // 2:
            peer.calm = 0  # with half the patience it would have been silent
        if peer.suspected and peer.missed < GONE_AFTER:
            self.false_suspicions += 1
            peer.patience = min(2 * peer.patience, MAX_PATIENCE)
        news = news or peer.suspected
        peer.suspected = False
        peer.heartbeat = heartbeat
        peer.missed = 0
        if news:
            self.version += 1

    def _missed(self, peer: _Peer, *, late: bool) -> None:
        peer.calm += 1
        if peer.calm >= CALM_AFTER:
            peer.calm = 0
            peer.patience = max(SUSPECTED_AFTER, peer.patience // 2)
        if late and not peer.suspected:
            peer.missed = -LATE_ALLOWANCE
        peer.missed += 1
        if peer.missed >= peer.patience and not peer.suspected:
            peer.suspected = True
            self.version += 1
        if peer.missed == GONE_AFTER:
            self.version += 1
        if peer.missed >= FORGOTTEN_AFTER:
            del self._peers[peer.heartbeat.process]
            self.version += 1

    # --- what follows from it -------------------------------------------------------------------------------------

    def announced(self, partition: int) -> int:
        """The latest term in which another said that it serves there; 0: none."""
        return max((peer.heartbeat.serves.get(partition, 0) for peer in self._peers.values()), default=0)

    def served(self, partition: int) -> bool:
        """Whether another process that can be heard says that it serves there."""
        return any(peer.takes_over and partition in peer.heartbeat.serves for peer in self._peers.values())

    def should_take_over(self, partition: int, term: int) -> bool:
        """Whether we are to open a term there, `term` being the one that stands in the log and we standing by: its
        writer is silent or leaves, and no other standby comes before us."""
        if all(peer.takes_over for peer in self._serving(partition, term)):
            return False  # nobody announced it, or whoever did is well
        ours = _rank(partition, self._name, self._process)
        return all(
            ours < _rank(partition, peer.heartbeat.name, peer.heartbeat.process)
            for peer in self._peers.values()
            if peer.takes_over and partition in peer.heartbeat.stands_by
        )

    def stands_by(self, partition: int) -> bool:
        """Whether we are to fold along there: another serves it, and few enough come before us."""
        newest = self.announced(partition)
        if newest == 0:
            return False
        ours = _rank(partition, self._name, self._process)
        before = [
            peer
            for peer in self._peers.values()
            if peer.stands_by
            and peer.heartbeat.serves.get(partition) != newest
            and _rank(partition, peer.heartbeat.name, peer.heartbeat.process) < ours
        ]
        return len(before) < self._standbys

    def succeeded(self, partition: int, term: int) -> bool:
        """Whether one who leaves need not wait any longer: another writes in a later term, or nobody stands by."""
        well = [peer.heartbeat for peer in self._peers.values() if peer.takes_over]
        return any(heartbeat.serves.get(partition, 0) > term for heartbeat in well) or not any(
            partition in heartbeat.stands_by for heartbeat in well
        )

    def _serving(self, partition: int, term: int) -> Iterator[_Peer]:
        return (peer for peer in self._peers.values() if peer.heartbeat.serves.get(partition) == term)


def _says(heartbeat: Heartbeat) -> tuple[object, ...]:
    return heartbeat.serves, heartbeat.stands_by, heartbeat.leaving


def _rank(partition: int, name: str, process: str) -> tuple[bytes, str]:
    """Rendezvous hashing: each partition has its own order of the processes, in which nobody else moves when one
    comes or goes."""
    return blake2b(f"{partition}/{name}".encode(), digest_size=8).digest(), process
