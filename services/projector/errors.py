"""What the projector raises.

ProjectorError
├── LostRace            another process moved the partition on: give it up; nothing was written
├── PartitionStopped    the log or the tables are not what they must be: this partition waits for an operator
├── LoadEnded           a load process of a rebuild exited by itself
├── ProjectionMissing   the version does not exist, or its state does not allow the operation
└── SwitchFailed        nothing was changed; the message says why and what to do
"""

from __future__ import annotations


class ProjectorError(Exception):
    """The root of everything that `services.projector` raises. The message is one sentence that says what to do."""


class LostRace(ProjectorError):
    """The stored position is not the one this process started from; its transaction was rolled back."""


class PartitionStopped(ProjectorError):
    """Continuing would build on something broken. Other partitions are not affected."""


class LoadEnded(ProjectorError):
    """A load process of a rebuild exited by itself: it was killed, or it has a bug. Loaded rows stay."""


class ProjectionMissing(ProjectorError):
    """The version does not exist, or its state does not allow the operation."""


class SwitchFailed(ProjectorError):
    """A cutover or a drop could not be completed; it changed nothing and can be retried."""
