"""How a writer's term ends.

    SequencerError
    ├── Superseded          the log has another process's later term: its records count, ours no longer do
    ├── StateBroken         the local state folder is unusable: wipe it and fold the log again
    ├── FilesMoved          the state changed its files while a snapshot was being taken: take another
    └── PartitionStopped    the partition must not continue until an operator has decided; the message says what

A term is also ended by KafkaUnavailable and AppendUnknown (restart after a pause), and by LogCorrupt and UnknownType
from `schemas` (stop the partition).
"""

from __future__ import annotations


class SequencerError(Exception):
    """The root of everything that `services.sequencer` raises."""


class Superseded(SequencerError):
    """Another process has opened a later term. What we appended since is void, and no reply was sent for it."""


class StateBroken(SequencerError):
    """RocksDB refused a read or a write."""


class FilesMoved(SequencerError):
    """The files of the state are no longer those of the moment of the snapshot."""


class PartitionStopped(SequencerError):
    """The partition must not continue: the logs are inconsistent, and continuing could lose data."""
