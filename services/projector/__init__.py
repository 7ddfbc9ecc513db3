"""Writes the log into Postgres: every valid outcome once, in order, together with the position reached.

Theory of operation. A projection is one schema `chat_v<N>`; the views of schema `chat` show the one that serves. Each
partition of each projection has a worker, and another one for its search. It reads `chat.events` from the stored
position, applies the validity rule, turns a batch of outcomes into rows by a pure function, and writes rows and
position in one transaction, guarded by the position it started from. Two projectors that both believe they own a
partition are safe: the guard lets one commit, and the other gives up the partition. A crash anywhere leaves the tables
at a whole batch, and the next projector continues there. A record that cannot be applied (corrupt log, unknown type,
another topic) stops that partition alone; readiness and the log say why. A rebuild folds the log into a second schema
with the same code. A cutover re-points the views once the new version is at or past the old one, so that no reader
steps back.

Rooms, in the order in which an outcome passes through them:

- `following`   one partition's worker: read, map, write, repeat; its lag; pruning
- `mapping`     which records count, and which rows they change. Pure
- `writing`     rows and position into Postgres, in one transaction
- `versions`    the projections side by side: migrations, registry, rebuild, cutover, retirement

Files: `app` (puts it together), `settings`, `metrics`, `errors`.
"""
