"""Compiles the project's extensions when it is installed or its wheel is built, if a C compiler is available.

Without them everything takes the slow path (schemas/wire/extensions.py). A machine that cannot compile is therefore not
refused; `make install` prints a notice.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODULES: Final = (
    "schemas.wire._scan",
    "schemas._tokens",
    "services.runtime.kafka._framing",
    "services.sequencer.partition._sends",
    "services.projector.writing._copy",
    "services.query.api._message_json",
)


class CompiledModules(BuildHookInterface):  # type: ignore[type-arg]
    """The extensions of the project, built in place."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  # hatchling's interface
        built = compile_in(Path(self.root))
        if not built:
            self.app.display_warning("nothing is compiled: records and sends take the slow path")
            return
        build_data["artifacts"] += [str(file.relative_to(self.root)) for file in built]
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def compile_in(root: Path) -> list[Path]:
    """Compile the extensions and return their files, or an empty list if this machine cannot compile them all: then it
    leaves none, not even those of older releases, which could still be imported."""
    _delete_extensions(root)
    try:
        from Cython.Build import cythonize
        from setuptools import Distribution, Extension
        from setuptools.command.build_ext import build_ext
        from setuptools.errors import BaseError, CCompilerError
    except ImportError:
        return []
    if sys.byteorder != "little":
        return []  # they read eight characters as one number
    places = [name.replace(".", "/") for name in MODULES]
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            os.chdir(root)  # Cython and setuptools name their files from here
            wanted = [Extension(name, [f"{place}.pyx"]) for name, place in zip(MODULES, places, strict=True)]
            extensions = cythonize(wanted, build_dir=scratch, quiet=True)
            command = build_ext(Distribution({"name": "gapless", "ext_modules": extensions}))
            command.inplace, command.build_temp, command.build_lib = True, scratch, scratch
            command.ensure_finalized()
            command.run()
            return [root / command.get_ext_fullpath(name) for name in MODULES]
        except (BaseError, CCompilerError, OSError):
            _delete_extensions(root)  # those that were built before one failed
            return []  # no compiler, or no Python.h; Cython raises errors in the source itself
        finally:
            os.chdir(here)


def _delete_extensions(root: Path) -> None:
    for top in {name.split(".")[0] for name in MODULES}:
        for file in (root / top).rglob("_*.so"):
            file.unlink()
