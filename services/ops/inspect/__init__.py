"""Inspects a running system, read-only.

- `lag`      the lag of the writer and of each projection, in records and in seconds
- `tail`     follows `chat.events`: each record with its place and its verdict by the validity rule
- `places`   finds places in a partition of the log without reading all of it
- `rows`     what readers see of one message, command or chat, in one snapshot
- `found`    what was found of it in the log and in the tables, and whether the two agree
- `show`     follows one message, command or chat through the system
- `trace`    finds the commands of a trace
- `rejected` counts the rejected commands
- `status`   the state of the whole system at one moment, and what of it is stopped
- `watch`    looks at the whole system, once or again and again
- `rates`    what changed between two looks, per second
- `heartbeats` listens to the sequencers' heartbeats
- `asked`    asks processes for `/readyz` and a few metrics
"""
