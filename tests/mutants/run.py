"""Curated bugs, each planted alone in a copy of the project, and the named check that has to catch it.

    make mutants                 all of them
    make mutants ARGS="reply"    those whose name contains the word

A check that is green with its bug planted is a hole in the proofs: the run names it and fails. It also fails where a
bug no longer fits the code (its text has moved), so that the list cannot rot.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from hatch_build import compile_in
from tests.mutants import ingest, live, ops, project, projector, query, runtime, schemas, sequencer, transfer
from tests.mutants.mutant import Mutant

ROOT: Final = Path(__file__).resolve().parents[2]
TIMEOUT_S: Final = 240

MUTANTS: Final[tuple[Mutant, ...]] = (
    *schemas.MUTANTS,
    *ingest.MUTANTS,
    *sequencer.MUTANTS,
    *projector.MUTANTS,
    *query.MUTANTS,
    *live.MUTANTS,
    *ops.MUTANTS,
    *transfer.MUTANTS,
    *runtime.MUTANTS,
    *project.MUTANTS,
)


def main(wanted: list[str]) -> int:
    chosen = [m for m in MUTANTS if all(word in m.name for word in wanted)]
    if not chosen:
        print("no mutant has such a name")
        return 2
    survivors = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        for mutant in chosen:
            began = time.monotonic()
            caught = _caught(mutant, Path(folder) / "copy")
            verdict = "caught" if caught else "SURVIVED"
            print(f"{verdict:9}{mutant.name:55}{time.monotonic() - began:5.0f} s  {mutant.check}", flush=True)
            if not caught:
                survivors.append(mutant)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} curated bugs were caught")
    return 1 if survivors else 0


def _caught(mutant: Mutant, copy: Path) -> bool:
    """Whether the check fails with the bug planted, by a failed test and nothing else."""
    _copy_project(copy)
    path = copy / mutant.file
    text = path.read_text()
    if text.count(mutant.good) != 1:
        raise SystemExit(f"{mutant.name}: its text stands {text.count(mutant.good)} times in {mutant.file}")
    path.write_text(text.replace(mutant.good, mutant.bad))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutant.check]
    if path.suffix == ".pyx" and not compile_in(copy):  # the others run where nothing is compiled
        raise SystemExit(f"{mutant.name}: there is no C compiler here")
    # PYTHONPATH: what the tests start as processes of their own is the copy, too.
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return True  # the bug made the system stand still, and the test would have said so in the end
    if done.returncode not in (0, 1):
        raise SystemExit(
            f"{mutant.name}: pytest could not run {mutant.check}:\n{done.stdout[-2000:]}{done.stderr[-500:]}"
        )
    return done.returncode == 1


def _copy_project(copy: Path) -> None:
    shutil.rmtree(copy, ignore_errors=True)
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, files.split("\0")):
        source = ROOT / name
        if source.is_file():
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
