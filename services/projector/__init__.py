"""Writes the log into Postgres: every valid outcome once, in order, together with the position it is at.

Theory of operation. A projection is one schema `chat_v<N>`; the views of schema `chat` show the one that serves. Each
partition of each projection has a worker, which reads `chat.events` from the stored position, applies the validity
rule, turns a batch of outcomes into rows by a pure function, and writes rows and position in one transaction that is
guarded by the position it started from. Two projectors that both believe they own a partition are safe: the guard lets
one through, and the other lets the partition go. A crash anywhere leaves the tables at a whole batch, and the next
projector continues there. What cannot be passed (a corrupt log, an unknown type, another topic) stops that partition
alone, and says so. A rebuild folds the log into a second schema by the same code, and a cutover re-points the views
when the new one is at or past the old one, so that no reader steps back.

Rooms, in the order in which an outcome meets them:

- `following`   one partition's worker: read, map, write, repeat; its lag; pruning
- `mapping`     which records count, and which rows they change. Pure
- `writing`     rows and position into Postgres, in one transaction
- `versions`    the projections side by side: migrations, registry, rebuild, cutover, retirement

Files: `app` (puts it together), `settings`, `metrics`, `errors`.
"""
