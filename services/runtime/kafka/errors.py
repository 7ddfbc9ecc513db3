"""What the Kafka clients raise.

KafkaError
├── KafkaUnavailable   no answer in time, or no broker: nothing is known to have happened; wait and try again
│   └── KafkaRefused   it does not let us in: a certificate, a password or a right is wrong, and waiting does not help
├── OffsetMissing      the log does not hold the offset asked for: trimmed, truncated, or another topic
├── AppendUnknown      an append that may or may not be in the log; its producer is to be discarded
└── TopicsWrong        the topics are not as the protocol needs them: each fault with what to do
"""

from __future__ import annotations

from collections.abc import Sequence


class KafkaError(Exception):
    """The root of everything that `services.runtime.kafka` raises."""


class KafkaUnavailable(KafkaError):
    """No broker answered within the deadline."""


class KafkaRefused(KafkaUnavailable):
    """A broker answered, and one of us does not accept the other; the message says what to put right."""


class OffsetMissing(KafkaError):
    """The asked offset is not in the log: before its start, or beyond its end."""


class AppendUnknown(KafkaError):
    """Nobody knows whether the records are, or will be, in the log. Never append again on top of it."""


class TopicsWrong(KafkaError):
    """Start-up refuses: serving on such topics would break a guarantee."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)
