"""The `gapless` command: the one place that puts the services together, and the proof that they did right.

Rooms:

- `cli`         the command line: one file per group of commands
- `verify`      the independent verifiers of the log and of the projections
- `inspect`     looks at a running system: lag, tail
- `stack`       the embedded stack: real servers and every service, on this machine
- `processes`   services in one process, or one service in several
- `rights`      the least rights that Kafka and Postgres have to grant

Files: `topics` (the topics on a cluster), `producer` (a client of Kafka), `chat_client` (a client of the HTTP API),
`errors` (exit codes).

The verifiers import `schemas` and the runtime's clients, never the projector or the sequencer: a bug there must not be
able to hide here. Everything that verifies only reads; a crash of any command loses nothing.
"""
