"""Golden files: a record as it stands in Kafka, as JSON that a person can read.

They are the contract with every log that was ever written, so nothing writes them by the way:

    python -m tests.contract.golden_files                     names what is missing or differs, and changes nothing
    python -m tests.contract.golden_files --write             writes the missing ones
    python -m tests.contract.golden_files --replace <path>    writes one anew: only while no log holds such a record
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
    """Of its golden file, relative to the folder of all."""
    return Path(example.topic, example.name.replace(" ", "-") + ".json")


def render(example: Example) -> str:
    """What its golden file says: key, headers and value as text, exactly, the headers in their order."""
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
    """The file as JSON, for what judges it as text."""
    fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return fields


def load_record(path: Path, *, offset: int = 0) -> LogRecord:
    """The file as a reader of the topic gets its record."""
    fields = load(path)
    return LogRecord(
        offset=offset,
        timestamp=fields["timestamp_ms"] if fields["timestamp_ms"] is not None else 0,
        key=fields["key"].encode() if fields["key"] is not None else None,
        value=fields["value"].encode(),
        headers=[(name, value.encode()) for name, value in fields["headers"].items()],
    )


def load_encoded(path: Path) -> Encoded:
    """The file as the encoder gave it."""
    record = load_record(path)
    return Encoded(record.key, record.value or b"", list(record.headers), load(path)["timestamp_ms"])


def main(arguments: Sequence[str], *, golden: Path = GOLDEN) -> int:
    """0 where every file is there and says what the code writes."""
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
