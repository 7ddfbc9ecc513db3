"""What the projector raises.

ProjectorError
├── LostRace            another process moved the partition on: let it go, nothing was written
├── PartitionStopped    the log or the tables are not what they must be: this partition waits for a person
├── LoadEnded           a process that loads for a rebuild ended by itself
├── ProjectionMissing   there is no projection of that version, or it is not what was asked for
└── SwitchFailed        the views still show what they showed; the message says why and what to do
"""

from __future__ import annotations


class ProjectorError(Exception):
    """The root of everything that `services.projector` raises. The message is one sentence that says what to do."""


class LostRace(ProjectorError):
    """The position is not the one this process started from: its transaction was rolled back."""


class PartitionStopped(ProjectorError):
    """Going on would build on something broken. The other partitions are not touched by it."""


class LoadEnded(ProjectorError):
    """A process of a rebuild ended by itself: killed, or by a mistake of ours. What is loaded stays."""


class ProjectionMissing(ProjectorError):
    """The asked version does not exist, or its state does not allow what was asked."""


class SwitchFailed(ProjectorError):
    """A cutover could not be made in time; it changed nothing and can be tried again."""
