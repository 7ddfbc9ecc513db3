"""Reads how long a client wants to wait for the outcome, from the header `Prefer` (RFC 7240)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LONGEST_WAIT_S: Final = 30.0

_PREFERENCE: Final = re.compile(
    r"""[ \t]*(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*
        (?:=[ \t]*(?:"(?P<quoted>[^"\\]*)"|(?P<bare>[^\s,;"]*)))?
        (?P<parameters>(?:[^,"]|"(?:[^"\\]|\\.)*")*)""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """The applied preference: how long to wait, and the value of `Preference-Applied`."""

    wait_s: float
    """Seconds to wait for the outcome; 0 responds with 202 as soon as the command is in the log."""
    applied: str | None = None


def read_prefer(values: Sequence[str], default_wait_s: float) -> Preference:
    """Parse the header. `respond-async` alone means no wait; with `wait=N` it means at most N s (RFC 7240 §4.3).

    Unknown preferences are ignored (§2), since they are not requirements. If one is repeated, the first counts.
    """
    if not values:
        return Preference(wait_s=default_wait_s)
    found: dict[str, str] = {}
    for value in values:
        for match in _PREFERENCE.finditer(value):
            found.setdefault(match["name"].lower(), match["quoted"] or match["bare"] or "")
    wait = found.get("wait", "")
    respond_async = found.get("respond-async") == ""
    if wait.isascii() and wait.isdigit():
        wait_s = min(float(wait[:9]), LONGEST_WAIT_S)
        applied = f"wait={wait_s:.0f}"
        return Preference(wait_s=wait_s, applied=f"respond-async, {applied}" if respond_async else applied)
    if respond_async:
        return Preference(wait_s=0.0, applied="respond-async")
    return Preference(wait_s=default_wait_s)
