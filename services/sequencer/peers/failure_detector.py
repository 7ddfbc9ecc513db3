"""The failure detector: which peers are alive, which partitions they serve, and when to take one over. Pure.

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
"""Own heartbeats without one from a peer after which it is suspected: 600 to 750 ms at the default interval."""
LATE_ALLOWANCE: Final = 15
"""Extra heartbeats of patience after one of our own was late: whatever delayed us may delay the peer next."""
MAX_PATIENCE: Final = 20
"""Maximum patience with a peer, in heartbeats: the group's session timeout, so that for a peer that stalls all the
time the group decides."""
CALM_AFTER: Final = 400
"""Own heartbeats without a stall after which patience with a peer is halved: a minute."""
GONE_AFTER: Final = 13
"""Own heartbeats after which a peer counts as gone, not slow: two seconds. Until then it counts as a standby, so that
a stall does not make other processes fold; afterwards, the suspicion was right."""
FORGOTTEN_AFTER: Final = 400
"""Own heartbeats after which a suspected peer is forgotten: the group reassigned its partitions long ago."""


@dataclass(slots=True)
class _Peer:
    """Another process, as of its last heartbeat."""

    heartbeat: Heartbeat
    missed: int = 0
    """Own heartbeats since then; negative while it is allowed to be late."""
    patience: int = SUSPECTED_AFTER
    calm: int = 0
    """Own heartbeats since it appeared, or since a gap for which half the patience would have been too short."""
    suspected: bool = False

    @property
    def takes_over(self) -> bool:
        return not (self.suspected or self.heartbeat.leaving)

    @property
    def stands_by(self) -> bool:
        return self.missed < GONE_AFTER and not self.heartbeat.leaving


class FailureDetector:
    """Observes every heartbeat in the order of the topic, including this process's own."""

    def __init__(self, process: str, name: str, *, standbys: int) -> None:
        """`process` and `name`: those of our own heartbeats; `standbys`: standbys for each partition."""
        self._process = process
        self._name = name
        self._standbys = standbys
        self._peers: dict[str, _Peer] = {}
        self._own_number = 0
        """Number of the last own heartbeat that came back."""
        self.version = 0
        """Grows whenever a result of this class may have changed."""
        self.false_suspicions = 0
        """Number of times that a suspected peer was only slow."""

    @property
    def live_peers(self) -> int:
        """Number of peers that are not suspected."""
        return sum(1 for peer in self._peers.values() if not peer.suspected)

    def observe(self, heartbeat: Heartbeat) -> None:
        """Observe the next heartbeat of the topic. One that an earlier, abandoned append delivers late is ignored."""
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
            peer.calm = 0  # with half the patience it would have been suspected
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
        """Return the latest term in which a peer said that it serves the partition; 0 if none did."""
        return max((peer.heartbeat.serves.get(partition, 0) for peer in self._peers.values()), default=0)

    def served(self, partition: int) -> bool:
        """Return whether a peer that is neither suspected nor leaving says that it serves the partition."""
        return any(peer.takes_over and partition in peer.heartbeat.serves for peer in self._peers.values())

    def should_take_over(self, partition: int, term: int) -> bool:
        """Return whether this standby should open a term: the writer of `term`, the latest in the log, is suspected or
        leaving, and no other standby ranks before us."""
        if all(peer.takes_over for peer in self._serving(partition, term)):
            return False  # no peer announced the term, or the one that did is alive
        ours = _rank(partition, self._name, self._process)
        return all(
            ours < _rank(partition, peer.heartbeat.name, peer.heartbeat.process)
            for peer in self._peers.values()
            if peer.takes_over and partition in peer.heartbeat.stands_by
        )

    def stands_by(self, partition: int) -> bool:
        """Return whether to stand by: a peer serves the partition, and few enough other peers rank before us."""
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
        """Return whether a leaving writer can stop: a peer writes in a later term, or no peer stands by."""
        well = [peer.heartbeat for peer in self._peers.values() if peer.takes_over]
        return any(heartbeat.serves.get(partition, 0) > term for heartbeat in well) or not any(
            partition in heartbeat.stands_by for heartbeat in well
        )

    def _serving(self, partition: int, term: int) -> Iterator[_Peer]:
        return (peer for peer in self._peers.values() if peer.heartbeat.serves.get(partition) == term)


def _says(heartbeat: Heartbeat) -> tuple[object, ...]:
    return heartbeat.serves, heartbeat.stands_by, heartbeat.leaving


def _rank(partition: int, name: str, process: str) -> tuple[bytes, str]:
    """Rendezvous hashing: each partition has its own order of the processes, and the others keep their order when one
    joins or leaves."""
    return blake2b(f"{partition}/{name}".encode(), digest_size=8).digest(), process
