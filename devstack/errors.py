"""The errors of the embedded stack; each says in one sentence what is wrong and what to do."""

from __future__ import annotations

from pathlib import Path


class DevstackError(Exception):
    """Base class of all errors of the embedded stack. Its text is meant to be shown as it is."""


class DownloadError(DevstackError):
    """Kafka's jars could not be fetched: no network, or an unexpected response from the repository."""


class ChecksumError(DevstackError):
    """A fetched jar differs from the one pinned in kafka-jars.lock; it must not be run until the cause is known."""


class MissingRuntimeError(DevstackError):
    """Java or PostgreSQL is not installed: the `devstack` extra is missing or broken."""


class FolderTakenError(DevstackError):
    """Another process runs the stack on this data folder."""


class FolderMismatchError(DevstackError):
    """The data folder was made for another number of brokers, by another version, or by another user."""


class PortTakenError(DevstackError):
    """A port that cannot be replaced by another is in use by another program."""


class ServerFailedError(DevstackError):
    """A server did not start, or one of its one-off commands failed.

    `log_tail` holds the last lines of its log; they are part of the text, below the sentence.
    """

    def __init__(self, sentence: str, *, log_path: Path, log_tail: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.log_path = log_path
        self.log_tail = log_tail

    def __str__(self) -> str:
        tail = self.log_tail or "(the log is empty)"
        return f"{self.sentence}\nLast lines of {self.log_path}:\n{tail}"
