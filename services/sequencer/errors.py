"""How a term of a writer ends.

    SequencerError
    ├── Superseded          another's later term stands in the log: its records count, ours no longer do
    ├── StateBroken         the local state folder is of no use: wipe it and fold the log again
    ├── FilesMoved          the state went on in other files while a snapshot of it was being made: make another
    └── PartitionStopped    nothing may go on in this partition until an operator has decided; the message says what

What else ends a term is the world's: KafkaUnavailable and AppendUnknown (begin again after a pause), LogCorrupt and
UnknownType from `schemas` (stop the partition).
"""

from __future__ import annotations


class SequencerError(Exception):
    """The root of everything that `services.sequencer` raises."""


class Superseded(SequencerError):
    """Another process has opened a later term. What we appended since is void, and nobody was told of it."""


class StateBroken(SequencerError):
    """RocksDB refused a read or a write."""


class FilesMoved(SequencerError):
    """The files of the state are no longer those of the moment that a snapshot was to show."""


class PartitionStopped(SequencerError):
    """The partition must not go on: the logs are not what they have to be, and guessing would lose something."""
