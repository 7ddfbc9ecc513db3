"""The sequencer: exactly one outcome for each command, in order, gap-free, though several processes may try.

Theory of operation. A consumer group hints which partitions are ours. For each there is a `PartitionWriter`, which
folds the event log into a local state, opens a term by appending to that log, and from then on reads commands,
decides them against the state, appends all outcomes of a batch as one record batch, and, only when that is
acknowledged where it was expected, applies them and replies. Any other result is unknown: it drops what it had
decided, gets rid of its producer and begins again with the fold. Correctness rests on the order of records in one
partition and the validity rule (schemas/log.py), not on the group, clocks or leases.

Guarantees: valid outcomes have indexes 1, 2, 3 …; each chat's seqs are 1, 2, 3 …; each command has one outcome;
what was replied is in the log. A crash at any line loses nothing: the state is disposable, the log is the truth.

For each partition another process stands by: it folds along, and opens a term when the beats of the one who serves
stop coming. That too is a hint and no more.

Read: `decide` and `evolve` (pure: what happens), `state` (what they see), `batch` (one append; nearly every send goes
the short way through it, by `_sends`, which is compiled and says what `decide` and `evolve` say), `recovery` (the
fold), `writer` (the protocol, steps 1 to 7), `term` (one term of it), `store` (RocksDB), `ports` and `kafka_ports`
(the world), `presence`, `beats` and `standby` (the other processes), `assignment` and `app` (many partitions).
"""
