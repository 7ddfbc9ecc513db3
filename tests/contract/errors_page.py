"""Writes the sections of docs/errors.md from the declared problem types.

    python -m tests.contract.errors_page            # does it differ?
    python -m tests.contract.errors_page --write    # write it again

The page's introduction is written by hand; everything from the table on is generated.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from services.runtime.web.problem_types import PROBLEM_TYPES
from services.runtime.web.problems import example_document

PAGE: Final = Path(__file__).parents[2] / "docs/errors.md"
BEGIN: Final = "<!-- generated: python -m tests.contract.errors_page --write -->\n"
WIDTH: Final = 120


def generated() -> str:
    """Return the generated part of the page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "\n| reason | status | meaning |\n|---|---|---|"
    for reason, kind in PROBLEM_TYPES.items():
        yield f"| [`{reason}`](#{reason}) | {kind.status} | {kind.title} |"
    for reason, kind in PROBLEM_TYPES.items():
        yield f"\n## `{reason}`\n"
        yield f"Status `{kind.status}`: {kind.title}.\n"
        for heading, text in (("When", kind.when), ("What to do", kind.action), ("Sending it again", kind.retry)):
            yield _filled(f"**{heading}.** {text}") + "\n"
        yield f"```json\n{json.dumps(example_document(reason), indent=2, ensure_ascii=False)}\n```"


def _filled(text: str) -> str:
    """Return the text in lines of at most WIDTH; code in backticks stays on one line."""
    parts = text.split("`")
    kept = "`".join(part.replace(" ", "\N{NO-BREAK SPACE}") if index % 2 else part for index, part in enumerate(parts))
    filled = textwrap.fill(kept, WIDTH, break_long_words=False, break_on_hyphens=False)
    return filled.replace("\N{NO-BREAK SPACE}", " ")


def written() -> str:
    """Return that part as it stands on the page."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2]


def main(arguments: Sequence[str]) -> int:
    if written() == generated():
        print("docs/errors.md is as generated")
        return 0
    if list(arguments) != ["--write"]:
        print("docs/errors.md differs from the problem types: python -m tests.contract.errors_page --write")
        return 1
    introduction = PAGE.read_text(encoding="utf-8").partition(BEGIN)[0]
    PAGE.write_text(introduction + BEGIN + generated(), encoding="utf-8")
    print("wrote docs/errors.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
