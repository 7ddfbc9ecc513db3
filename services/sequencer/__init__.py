"""The sequencer: exactly one outcome for each command, in order, gap-free, though several processes may try.

Theory of operation. A consumer group hints which partitions are ours. Each has a `PartitionWriter`, which folds the
event log into a local state, opens a term by appending to that log, and from then on reads commands, decides them
against the state, appends all outcomes of a batch as one record batch, and applies and replies only when that is
acknowledged at the expected offset. Any other result is unknown: the writer drops what it had decided, discards its
producer and starts again with the fold. Correctness rests on the order of records in one partition and on the validity
rule (schemas/log.py), not on the group, clocks or leases.

Guarantees: valid outcomes have indexes 1, 2, 3 …; each chat's seqs are 1, 2, 3 …; each command has one outcome; what
was replied is in the log. A crash at any line loses nothing: the state is disposable, the log is the truth.

Each partition has a standby in another process: it folds along, and opens a term when the serving process's heartbeats
stop. That, too, is only a hint.

Rooms:

- `rules`       what happens: decide and evolve, with the state they see. Pure
- `partition`   one partition's writer: the protocol, its terms, its batches
- `store`       the folded state in RocksDB, and the fold that fills it
- `snapshots`   copies of that state in an object store, for processes that start without one
- `peers`       the other sequencers: heartbeats, failure detection, handover

Files: `app` and `assignment` (many partitions), `ports` and `kafka` (the world), `clock`, `responsibility`,
`trimming`, `settings`, `metrics`, `errors`.
"""
