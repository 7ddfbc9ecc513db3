"""The errors of live."""

from __future__ import annotations


class LiveError(Exception):
    """A stream cannot be opened now. The message is for the client; asking again later helps."""


class StandingUnavailable(LiveError):
    """The read model cannot be read."""


class NotReading(LiveError):
    """The log is not being read: not yet, or one of its partitions has stopped."""
