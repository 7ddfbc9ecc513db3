"""Asks processes for `/readyz` and for the few metrics that show what they do."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

ASK_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a process says of itself."""

    name: str
    url: str
    ready: bool
    reasons: tuple[str, ...] = ()
    """Why it is not ready; that it does not answer is one."""
    needs_operator: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    terms: Mapping[int, int] = field(default_factory=dict)
    """Partition → the term in which the process writes there."""
    streams: int | None = None
    """Open live connections; None if it serves none, or its metrics cannot be read."""


async def ask(urls: Mapping[str, str], *, ca: str | None = None) -> list[Asked]:
    """Ask each process at its URL, concurrently. `ca` is a file of the certificates to trust."""
    verify = ssl.create_default_context(cafile=ca)
    async with httpx.AsyncClient(timeout=ASK_TIMEOUT_S, trust_env=False, verify=verify) as http:
        return list(await asyncio.gather(*(_ask(http, name, url) for name, url in urls.items())))


async def _ask(http: httpx.AsyncClient, name: str, url: str) -> Asked:
    try:
        answer = await http.get(f"{url.rstrip('/')}/readyz")
        said = answer.json()
        metrics = (await http.get(f"{url.rstrip('/')}/metrics")).text
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return Asked(name=name, url=url, ready=False, reasons=(f"It does not answer at {url} ({_why(error)}).",))
    return asked_of(name, url, said, metrics, answers=answer.status_code)


def asked_of(name: str, url: str, said: Any, metrics: str, *, answers: int) -> Asked:
    """Return what the bodies of `/readyz` and `/metrics` say."""
    said = said if isinstance(said, dict) else {}
    ready = said.get("ready") is True
    reasons = _sentences(said, "reasons") or (() if ready else (f"It answers {answers} at {url}/readyz.",))
    terms: dict[int, int] = {}
    streams: int | None = None
    for family in text_string_to_metric_families(metrics):
        if family.name == "gapless_live_streams":  # without samples until the first connection
            streams = 0
        for sample in family.samples:
            if sample.name == "gapless_sequencer_term" and sample.value > 0:
                terms[int(sample.labels["partition"])] = int(sample.value)
            elif sample.name == "gapless_live_streams":
                streams = int(sample.value) + (streams or 0)
    return Asked(
        name=name,
        url=url,
        ready=ready,
        reasons=reasons,
        needs_operator=_sentences(said, "needs_operator"),
        notes=_sentences(said, "notes"),
        terms=terms,
        streams=streams,
    )


def _sentences(said: dict[str, Any], name: str) -> tuple[str, ...]:
    found = said.get(name)
    return tuple(str(each) for each in found) if isinstance(found, list) else ()


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
