"""Finds `GAPLESS_*` variables that nothing reads: misspelt, or of another version.

They get a warning, not a refusal: one environment is often used for several services, or for two releases during an
upgrade, and a variable that only one of them knows must not keep the other from starting. Variables that any service of
this release reads get no warning.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from services.runtime.settings import Settings, variables_of

PREFIX: Final = "GAPLESS_"
NO_SETTINGS: Final = frozenset(
    {
        "GAPLESS_API_CA",
        "GAPLESS_API_TOKEN",
        "GAPLESS_API_URL",
        "GAPLESS_CACHE",
        "GAPLESS_CRASH_AT",
        "GAPLESS_DEVSTACK_JVM_OPTIONS",
        "GAPLESS_MAVEN_URL",
        "GAPLESS_PORT",
        "GAPLESS_POSTGRES_PASSWORD",
        "GAPLESS_PURE",
        "GAPLESS_TEST_STACK",
    }
)
"""Variables that no settings class reads; docs/settings.md lists them under "Other variables"."""
KUBERNETES: Final = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_\w+)?)")
"""Variables that Kubernetes sets in every pod for a service whose name begins with `gapless`."""
PORT_ALONE: Final = re.compile(r"\w+(?<!_SERVICE)_PORT")
"""A variable that Kubernetes sets too, to an address."""


@dataclass(frozen=True, slots=True)
class UnknownVariable:
    """A variable that nothing reads, and the one that was probably meant."""

    name: str
    meant: str | None

    def __str__(self) -> str:
        hint = f"; did you mean {self.meant}?" if self.meant is not None else ": docs/settings.md lists all."
        return f"{self.name} is not a variable of this release and is ignored{hint}"


def unknown_variables(environment: Mapping[str, str] = os.environ) -> list[UnknownVariable]:
    """Return the unknown variables of the environment, by name."""
    given = sorted(name for name in environment if name.upper().startswith(PREFIX))
    if not given:
        return []
    known = known_variables()
    return [
        UnknownVariable(name, _meant(name, known))
        for name in given
        if name.upper() not in known and not _is_of_kubernetes(name, environment[name])
    ]


def known_variables() -> frozenset[str]:
    """Return all variables that any part of this release reads."""
    return NO_SETTINGS.union(*(variables_of(settings) for settings in _settings_of_all_services()))


def _settings_of_all_services() -> Iterator[type[Settings]]:
    from services.ingest.settings import IngestProcessSettings
    from services.live.settings import LiveProcessSettings
    from services.ops.demo_page.settings import DemoSettings
    from services.projector.settings import ProjectorSettings
    from services.query.settings import QueryProcessSettings
    from services.sequencer.settings import SequencerSettings

    yield from (IngestProcessSettings, SequencerSettings, ProjectorSettings, QueryProcessSettings, LiveProcessSettings)
    yield DemoSettings


def _meant(name: str, known: frozenset[str]) -> str | None:
    close = difflib.get_close_matches(name.upper(), sorted(known), n=1, cutoff=0.8)
    return close[0] if close else None


def _is_of_kubernetes(name: str, value: str) -> bool:
    is_address = re.match(r"(tcp|udp|sctp)://", value) is not None
    return is_address if PORT_ALONE.fullmatch(name) else KUBERNETES.fullmatch(name) is not None
