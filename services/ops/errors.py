"""What the commands raise, and the exit codes they end with.

OpsError               the root; its message is one sentence that says what to do
├── UsageError         exit 2: the command cannot be meant like this (unknown projection, a taken folder)
└── FaultFound         exit 1: what was looked at is not as it must be
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of `gapless`."""

    OK = 0
    FAULT = 1
    """A difference, a fault, a refusal: the answer to the question is no."""
    USAGE = 2
    """The command line, a setting or the state of a folder does not allow it."""
    UNAVAILABLE = 3
    """Kafka or Postgres did not answer; try again when they do."""


class OpsError(Exception):
    """The root of everything that `services.ops` raises."""

    exit_code = Exit.FAULT


class UsageError(OpsError):
    """It cannot be done like this; the message says how it can."""

    exit_code = Exit.USAGE


class FaultFound(OpsError):
    """The log or the tables are not as they must be; the message says where."""
