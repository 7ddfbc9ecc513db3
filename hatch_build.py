"""Compiles schemas/_records.pyx when the project is installed or its wheel built; where there is no C compiler, not.

Everything works without it, on the longer way (schemas/records.py): a machine that cannot compile is served, not
refused, and `make install` says so.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODULE = "schemas._records"


class CompiledRecords(BuildHookInterface):  # type: ignore[type-arg]
    """The one extension of the project, built in place."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  # hatchling's interface
        built = _compile(Path(self.root))
        if built is None:
            self.app.display_warning(f"{MODULE} is not compiled: records go the longer way")
            return
        build_data["artifacts"].append(str(built.relative_to(self.root)))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def _compile(root: Path) -> Path | None:
    """The extension's file; None where this machine cannot make it."""
    try:
        from Cython.Build import cythonize
        from setuptools import Distribution, Extension
        from setuptools.command.build_ext import build_ext
        from setuptools.errors import BaseError, CCompilerError
    except ImportError:
        return None
    if sys.byteorder != "little":
        return None  # it looks at eight characters as one number
    for old in root.glob(f"{MODULE.replace('.', '/')}.*.so"):
        old.unlink()
    source = f"{MODULE.replace('.', '/')}.pyx"
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            os.chdir(root)  # Cython and setuptools name their files from here
            extensions = cythonize([Extension(MODULE, [source])], build_dir=scratch, quiet=True)
            command = build_ext(Distribution({"name": "gapless", "ext_modules": extensions}))
            command.inplace, command.build_temp = True, scratch
            command.ensure_finalized()
            command.run()
            return root / command.get_ext_fullpath(MODULE)
        except (BaseError, CCompilerError, OSError):
            return None  # no compiler, or no Python.h; what is wrong in the source itself is raised by Cython
        finally:
            os.chdir(here)
