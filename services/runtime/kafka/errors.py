"""The exceptions of the Kafka clients.

KafkaError
├── KafkaUnavailable   no answer in time, or no broker; wait and retry
│   └── KafkaRefused   Kafka refuses us: a certificate, a password or a right is wrong, and waiting does not help
├── OffsetMissing      the log does not contain the requested offset: trimmed, truncated, or another topic
├── AppendUnknown      an append that may or may not be in the log; its producer must be discarded
└── TopicsWrong        the topics do not meet the protocol's needs: each fault with what to do
"""

from __future__ import annotations

from collections.abc import Sequence


class KafkaError(Exception):
    """The base class of all exceptions of `services.runtime.kafka`."""


class KafkaUnavailable(KafkaError):
    """No broker answered within the deadline."""


class KafkaRefused(KafkaUnavailable):
    """A broker answered, but it or we refuse the connection. The message says what to correct."""


class OffsetMissing(KafkaError):
    """The requested offset is before the start of the log or beyond its end."""


class AppendUnknown(KafkaError):
    """It is unknown whether the records are, or will be, in the log. Never retry such an append."""


class TopicsWrong(KafkaError):
    """The topics would break a guarantee; a process refuses to start on them."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)
