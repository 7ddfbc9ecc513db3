"""Whether compiled code is used: the one place that knows.

The extensions are built at installation, all or none (hatch_build.py). Each module with a compiled counterpart asks for
it once, when it is imported, and falls back to plain Python if the answer is None. The results are equal; only the
speed differs. `GAPLESS_PURE=1` turns compiled code off everywhere, to compare the two or to find the cause of a bug.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

PURE_VARIABLE: Final = "GAPLESS_PURE"
_FIRST: Final = "schemas.wire._scan"
"""If it is installed, all extensions are."""


def extension(name: str) -> Any:
    """Return the compiled module of that name, or None if compiled code is not installed or is turned off.

    Raises ImportError if the module is installed but broken, or if only some of the extensions are installed: neither
    passes for an installation without a compiler.
    """
    if os.environ.get(PURE_VARIABLE, "") not in ("", "0"):
        return None
    installed = find_spec(name) is not None
    if installed != (find_spec(_FIRST) is not None):
        raise ImportError(
            f"only some of the compiled modules are installed ({name} {'is' if installed else 'is not'}):"
            f" install Gapless again, or set {PURE_VARIABLE}=1 to do without them"
        )
    return import_module(name) if installed else None


def code_in_use() -> str:
    """Return `compiled` or `pure`: what this process runs."""
    return "compiled" if extension(_FIRST) is not None else "pure"
