"""Explores by hand, at any size: `python -m tests.model --commands 4 --starts 2`, or with a mistake seeded.

python -m tests.model --plain --commands 2 --starts 2 --batch 1 --copies 0
python -m tests.model --mistake NO_TERM_CHECK
"""

from __future__ import annotations

import argparse
import sys

from tests.model.explorer import explore
from tests.model.mistakes import Mistake
from tests.model.values import Bounds


def main() -> int:
    """Return 0 if every state keeps the invariants, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__.split("\n", maxsplit=1)[0])
    for name, default in (("commands", 3), ("starts", 2), ("batch", 2), ("copies", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--plain", action="store_true", help="without the reductions of tests/model/explorer.py")
    parser.add_argument("--mistake", choices=[mistake.name for mistake in Mistake])
    asked = parser.parse_args()
    bounds = Bounds(commands=asked.commands, starts=asked.starts, batch=asked.batch, copies=asked.copies)
    mistake = Mistake[asked.mistake] if asked.mistake else None
    explored = explore(bounds, mistake, reduced=not asked.plain and mistake is None)
    print(explored)
    return 0 if explored.violation is None else 1


if __name__ == "__main__":
    sys.exit(main())
