"""The exceptions of the commands, and their exit codes.

OpsError               the base class; its message is one sentence that says what to do
├── UsageError         exit 2: the command makes no sense as given (unknown projection, folder in use)
└── FaultFound         exit 1: a check found a fault
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of `gapless`."""

    OK = 0
    FAULT = 1
    """A difference, a fault or a refusal."""
    USAGE = 2
    """The command line, a setting or the state of a folder does not allow the command."""
    UNAVAILABLE = 3
    """Kafka or Postgres did not answer; retry when they do."""


class OpsError(Exception):
    """The base class of the exceptions of `services.ops`."""

    exit_code = Exit.FAULT


class UsageError(OpsError):
    """The command makes no sense as given. The message says what to do."""

    exit_code = Exit.USAGE


class FaultFound(OpsError):
    """The log or the tables have a fault. The message says where."""
