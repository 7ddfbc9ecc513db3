"""Golden files: a record as it is in Kafka, as readable JSON.

They are the contract with every log that was ever written, so they are written only on request:

    python -m tests.contract.golden_files                     lists what is missing or differs, and changes nothing
    python -m tests.contract.golden_files --write             writes the missing ones
    python -m tests.contract.golden_files --replace <path>    rewrites one: only while no log holds such a record
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from schemas.wire.encoding import Encoded
from tests.contract.example_commands import COMMANDS
from tests.contract.example_outcomes import OUTCOMES, REPLIES
from tests.contract.example_records import CommandExample, OutcomeExample, RepliesExample
from tests.support.chat_log import LogRecord

Example = CommandExample | OutcomeExample | RepliesExample
EXAMPLES: Final[tuple[Example, ...]] = (*COMMANDS, *OUTCOMES, REPLIES)
GOLDEN: Final = Path(__file__).parent / "golden"


def path_of(example: Example) -> Path:
    """Return the path of its golden file, relative to the folder of all."""
    return Path(example.topic, example.name.replace(" ", "-") + ".json")


def render(example: Example) -> str:
    """Return the content of its golden file: key, headers and value as exact text, the headers in order."""
    encoded = example.encode()
    assert len(dict(encoded.headers)) == len(encoded.headers), "a header is written twice"
    fields = {
        "topic": example.topic,
        "partition": example.partition,
        "key": encoded.key.decode() if encoded.key is not None else None,
        "timestamp_ms": encoded.timestamp_ms,
        "headers": {name: value.decode() for name, value in encoded.headers},
        "value": encoded.value.decode(),
    }
    return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"


def load(path: Path) -> dict[str, Any]:
    """Return the file as JSON, for checks of its text."""
    fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return fields


def load_record(path: Path, *, offset: int = 0) -> LogRecord:
    """Return the file's record as a reader of the topic gets it."""
    fields = load(path)
    return LogRecord(
        offset=offset,
        timestamp=fields["timestamp_ms"] if fields["timestamp_ms"] is not None else 0,
        key=fields["key"].encode() if fields["key"] is not None else None,
        value=fields["value"].encode(),
        headers=[(name, value.encode()) for name, value in fields["headers"].items()],
    )


def load_encoded(path: Path) -> Encoded:
    """Return the file's record as the encoder made it."""
    record = load_record(path)
    return Encoded(record.key, record.value or b"", list(record.headers), load(path)["timestamp_ms"])


def main(arguments: Sequence[str], *, golden: Path = GOLDEN) -> int:
    """Return 0 if every file exists and has what the code writes, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.contract.golden_files", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the files that are missing")
    parser.add_argument("--replace", type=Path, action="append", default=[], metavar="PATH", help="write this one anew")
    asked = parser.parse_args(arguments)
    wrong = 0
    for example in EXAMPLES:
        path, rendered = path_of(example), render(example)
        file = golden / path
        old = file.read_text(encoding="utf-8") if file.exists() else None
        if old == rendered:
            continue
        if path in asked.replace or (asked.write and old is None):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(rendered, encoding="utf-8")
            print(f"written: {path}")
        else:
            wrong += 1
            print(f"missing: {path}" if old is None else f"differs: {path}: old logs hold what the file says")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
