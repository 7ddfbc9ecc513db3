"""The `gapless` command: the one place that assembles the services, and the verifiers of their results.

Rooms:

- `cli`         the command line: one file per group of commands
- `verify`      the independent verifiers of the log and of the projections
- `transfer`    copies a log out of a cluster, and into another
- `inspect`     inspects a running system: lag, tail
- `repair`      writes to the log for an operator, where no process may decide by itself
- `stack`       the embedded stack: real servers and every service, on this machine
- `following`   follows a chat over the HTTP API, as `gapless chat follow` does
- `demo_page`   a chat in a browser, served by `gapless api`
- `processes`   several services in one process, or one service in several
- `rights`      the least rights that Kafka and Postgres must grant

Files: `topics` (the topics on a cluster), `producer` (a client of Kafka), `chat_client` (a client of the HTTP API),
`errors` (exit codes).

The verifiers import `schemas` and the runtime's clients, never the projector or the sequencer, so that they do not
share their bugs. Verification only reads; a crash of any command loses nothing. Only `repair` writes to the log.
"""
