"""Named crash points at which a test may kill the process, each with what recovery guarantees there.

A service declares its crash points next to the code that passes them:

    declare_crash_point("sequencer.before_append", "Nothing is in the log; the next writer decides the batch anew.")
    ...
    crash_point("sequencer.before_append")

Nothing happens unless GAPLESS_CRASH_AT=<name>[:n][:stop] is set: then the process sends itself SIGKILL at the n-th
passage (the first if n is omitted). SIGKILL instead of an exception, so that no cleanup makes it milder than a power
cut. With `:stop` it sends SIGSTOP, once: the process becomes a zombie, which is paused for as long as the test likes
and acts at SIGCONT as if no time had passed.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from services.runtime.settings import SettingsError

CRASH_AT_VARIABLE: Final = "GAPLESS_CRASH_AT"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+", re.ASCII)
_CRASH_AT: Final = re.compile(rf"(?P<name>{_NAME.pattern})(:(?P<passage>[1-9][0-9]*))?(?P<stop>:stop)?", re.ASCII)

_guarantees: dict[str, str] = {}
_armed_name: str | None = None
_passages_left = 0
_signal = signal.SIGKILL


def declare_crash_point(name: str, guarantee: str) -> str:
    """Register a crash point as `<service>.<moment>` and return its name.

    :param guarantee: one sentence: what holds after a crash here, and how the process recovers.
    """
    assert _NAME.fullmatch(name), f"{name!r} is no name for a crash point"
    assert name not in _guarantees or _guarantees[name] == guarantee, f"{name} is declared twice"
    _guarantees[name] = guarantee
    return name


def declared_crash_points() -> Mapping[str, str]:
    """Return every crash point declared by the modules imported so far, with its guarantee."""
    return MappingProxyType(_guarantees)


def crash_point(name: str) -> None:
    """Kill the process here if this crash point is armed and it is the chosen passage."""
    if _armed_name is None:
        return
    _pass_armed(name)


def _pass_armed(name: str) -> None:
    global _passages_left, _armed_name  # process-wide: the crash ends the process
    assert name in _guarantees, f"the crash point {name} is passed but was never declared"
    if name != _armed_name:
        return
    _passages_left -= 1
    if _passages_left <= 0:
        _armed_name = None
        os.write(2, f"crash point {name} reached: {_signal.name}\n".encode())
        os.kill(os.getpid(), _signal)


def arm_crash_point(value: str | None) -> None:
    """Arm the crash point that value names (`name`, `name:n`, either with `:stop`), or none if value is None.

    Call it after the service's modules are imported.

    :raises SettingsError: value names no declared crash point.
    """
    global _armed_name, _passages_left, _signal
    if not value:
        _armed_name, _passages_left = None, 0
        return
    match = _CRASH_AT.fullmatch(value)
    if match is None or match["name"] not in _guarantees:
        known = ", ".join(sorted(_guarantees)) or "none is declared here"
        raise SettingsError(f"{CRASH_AT_VARIABLE} must be <crash point>[:n][:stop], with one of: {known}.")
    _armed_name, _passages_left = match["name"], int(match["passage"] or 1)
    _signal = signal.SIGSTOP if match["stop"] else signal.SIGKILL


def arm_from_environment() -> None:
    """Call arm_crash_point with the value of GAPLESS_CRASH_AT.

    :raises SettingsError: the variable names no declared crash point.
    """
    arm_crash_point(os.environ.get(CRASH_AT_VARIABLE))
