"""Heartbeats: what each sequencer sends to the others over `chat.heartbeats`, several times a second.

They are hints between processes of one release and not part of the public contract; an unreadable one is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from typing import Any

from msgspec import Struct

from schemas.canonical import canonical_json


class Heartbeat(Struct, frozen=True, kw_only=True):
    """One heartbeat of one process."""

    process: str
    """Id of one run of a process, never reused."""
    name: str
    """Name of the place it runs at; the same after a restart there."""
    number: int
    """1, 2, 3 … in the order sent: one that is appended after a later one is outdated."""
    serves: Mapping[int, int]
    """Partition → the term in which the process writes there."""
    stands_by: Set[int]
    """Partitions whose log it has folded up to now."""
    leaving: bool = False
    """Set once the process was asked to stop: standbys should take over what it serves."""
    extra: bool = False
    """Sent between two regular heartbeats because of news: it does not count as time passed."""
    late: bool = False
    """Sent later after the previous one than the interval allows."""


def encode_heartbeat(heartbeat: Heartbeat) -> bytes:
    """A JSON object; flags that are not set are left out."""
    document: dict[str, object] = {
        "process": heartbeat.process,
        "name": heartbeat.name,
        "number": heartbeat.number,
        "serves": {str(partition): term for partition, term in sorted(heartbeat.serves.items())},
        "stands_by": sorted(heartbeat.stands_by),
    }
    document.update({flag: True for flag in ("leaving", "extra", "late") if getattr(heartbeat, flag)})
    return canonical_json(document)


def decode_heartbeat(raw: bytes) -> Heartbeat:
    """Raises ValueError where it is no heartbeat."""
    try:
        document: Any = json.loads(raw)
        return Heartbeat(
            process=str(document["process"]),
            name=str(document["name"]),
            number=int(document["number"]),
            serves={int(partition): int(term) for partition, term in document["serves"].items()},
            stands_by=frozenset(int(partition) for partition in document["stands_by"]),
            leaving=document.get("leaving") is True,
            extra=document.get("extra") is True,
            late=document.get("late") is True,
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no heartbeat: {error!r:.200}") from None
