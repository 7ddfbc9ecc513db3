"""The processes of Gapless, in the order in which a message meets them.

- `ingest`     HTTP in: requests become commands, replies become answers
- `sequencer`  the one writer of a partition: decides each command once, appends the outcomes
- `projector`  the log into Postgres, exactly once
- `query`      HTTP out: history, unread, read state
- `live`       HTTP out: streams of what happens, from the log
- `ops`        the `gapless` command; the one place that puts the others together
- `runtime`    what they share and no business: settings, Kafka and Postgres clients, logs, metrics, lifecycle

Ingest, sequencer, projector, query and live do not import each other: they meet in `schemas` and on the wire.
The import contracts in pyproject.toml hold all of this; `make check` runs them.
"""
