"""What a seed determines: how many writers, their requests, and how often each fault happens.

Each seed first draws which kinds of fault exist: a run with everything at once hides what a run with only slow reads
and rebalances would show.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from random import Random
from typing import Final

_RARE: Final = (0.0, 0.0, 0.02, 0.1)
_OFTEN: Final = (0.0, 0.0, 0.05, 0.3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Chances are per call; `_s` are seconds of simulated time, and rates are per such second."""

    writers: int
    clients: int
    requests: int
    """Per client."""
    faults_s: float
    """How long faults happen; then everything must recover."""
    slow: float
    slow_s: float
    unavailable: float
    reads_short: float
    refused: float
    lost: float
    unacknowledged: float
    misplaced: float
    copied: float
    late_s: float
    broken_store: float
    crashes_per_s: float
    revives_per_s: float
    """How often dead processes are looked for; half of them are started then."""
    power_cuts_per_s: float
    """All machines die at once, and all return at once."""
    pauses_per_s: float
    restarts_per_s: float
    words_per_s: float
    """Rate of rebalances."""
    two_owners: float
    """Chance that a rebalance leaves two machines that believe that they own the partition."""
    no_owner: float
    damage: float
    """Chance that a disk is not as its dead process left it."""
    trims_per_s: float
    versions_differ: bool
    """Whether one machine runs another version, as in a rolling deploy, which refuses longer texts than the others.

    Writers that always agree would hide what distinguishes them.
    """
    clock_skew_ms: int
    """Maximum clock difference between two machines."""
    lost_replies: float
    bad_commands: float
    append_timeout_s: float
    assignment_timeout_s: float
    append_bytes: int
    """Size at which a batch is closed; a small one makes many batches of a burst."""
    commands_per_read: int
    standbys: int
    """Number of standbys for the partition; 0: no heartbeats, and only the group assigns."""
    heartbeat_s: float
    snapshots_per_s: float
    """Rate of snapshots of one machine's disk, for all to install; 0: no machine looks for any."""

    @classmethod
    def calm(cls) -> Plan:
        """Return a plan with two machines, one client, and no faults except those that a test injects."""
        return cls(
            writers=2,
            clients=1,
            requests=0,
            faults_s=0.0,
            slow=0.0,
            slow_s=0.0,
            unavailable=0.0,
            reads_short=0.0,
            refused=0.0,
            lost=0.0,
            unacknowledged=0.0,
            misplaced=0.0,
            copied=0.0,
            late_s=0.0,
            broken_store=0.0,
            crashes_per_s=0.0,
            revives_per_s=0.0,
            power_cuts_per_s=0.0,
            pauses_per_s=0.0,
            restarts_per_s=0.0,
            words_per_s=0.0,
            two_owners=0.0,
            no_owner=0.0,
            damage=0.0,
            trims_per_s=0.0,
            versions_differ=False,
            clock_skew_ms=0,
            lost_replies=0.0,
            bad_commands=0.0,
            append_timeout_s=5.0,
            assignment_timeout_s=10.0,
            append_bytes=900_000,
            commands_per_read=1_000,
            standbys=0,
            heartbeat_s=0.15,
            snapshots_per_s=0.0,
        )

    @classmethod
    def of(cls, random: Random) -> Plan:
        def often() -> float:
            return random.choice(_OFTEN)

        def rarely() -> float:
            return random.choice(_RARE)

        return cls(
            writers=random.choice((2, 2, 3)),
            clients=random.choice((1, 2, 3)),
            requests=random.randint(4, 14),
            faults_s=random.choice((3.0, 8.0, 15.0)),
            slow=often(),
            slow_s=random.choice((0.1, 2.0, 8.0)),
            unavailable=rarely(),
            reads_short=often(),
            refused=rarely(),
            lost=rarely(),
            unacknowledged=often(),
            misplaced=rarely(),
            copied=often(),
            late_s=random.choice((1.0, 5.0, 20.0)),
            broken_store=random.choice((0.0, 0.0, 0.0, 0.02)),
            crashes_per_s=random.choice((0.0, 0.1, 0.5, 2.0)),
            revives_per_s=random.choice((4.0, 4.0, 0.4)),
            power_cuts_per_s=random.choice((0.0, 0.0, 0.3)),
            pauses_per_s=random.choice((0.0, 0.1, 0.5)),
            restarts_per_s=random.choice((0.0, 0.0, 0.2)),
            words_per_s=random.choice((0.05, 0.1, 0.5, 2.0)),
            two_owners=random.choice((0.0, 0.3, 0.8)),
            no_owner=random.choice((0.0, 0.2)),
            damage=random.choice((0.0, 0.5)),
            trims_per_s=random.choice((0.0, 0.5, 2.0)),
            versions_differ=random.random() < 0.5,
            clock_skew_ms=random.choice((0, 0, 5_000)),
            lost_replies=rarely(),
            bad_commands=rarely(),
            append_timeout_s=random.choice((0.5, 5.0)),
            assignment_timeout_s=random.choice((0.5, 10.0)),
            append_bytes=random.choice((900_000, 1_500)),
            commands_per_read=random.choice((1_000, 3)),
            standbys=random.choice((0, 0, 1, 2)),
            heartbeat_s=random.choice((0.05, 0.15, 0.15)),
            snapshots_per_s=random.choice((0.0, 0.0, 0.5)),
        )

    def __str__(self) -> str:
        return " ".join(f"{field.name}={getattr(self, field.name):g}" for field in fields(self))
