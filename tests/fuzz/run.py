"""Minutes of forged record batches through a real broker: `make fuzz ARGS="--minutes 10 --seed 7"`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

import structlog

from tests.fuzz.batches import Storm, storms
from tests.support import stack


def main() -> int:
    """Return the exit code: 0 if every log was sound, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batches", type=int, default=1_000, help="of one round, which has topics of its own")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    result = Storm(arguments.seed)

    def told() -> None:
        print(f"{result.written} batches, {result.records} records, unsound {len(result.unsound)}", file=sys.stderr)

    with stack.kafka_server() as kafka:
        asyncio.run(storms(kafka, result, minutes=arguments.minutes, batches=arguments.batches, on_round=told))
    print("\n".join(result.lines()))
    return 1 if result.unsound else 0


if __name__ == "__main__":
    sys.exit(main())
