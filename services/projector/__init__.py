"""Writes the log into Postgres: every valid outcome once, in order, together with the position it is at.

Theory of operation. A projection is one schema `chat_v<N>`; the views of schema `chat` show the one that serves.
Per projection and partition a worker reads `chat.events` from the stored position, applies the validity rule,
turns a batch of outcomes into rows by a pure function, and writes rows and position in one transaction that is
guarded by the position it started from. Two projectors that both believe they own a partition are safe: the guard
lets one through, the other lets the partition go. A crash anywhere leaves the tables at some whole batch, and the
next projector goes on there. What cannot be gone past (a corrupt log, an unknown type, another topic) stops that
partition alone, and says so. A rebuild folds the log into a second schema by the same code, and a cutover
re-points the views when the new one is at or past the old one, so that no reader steps back.

Read in this order: `errors`, `events`, `tables`, `rows` (the mapping; pure), `validity` (pure), `apply`, `new_rows`,
`feed`, `worker`, `app`; then `registry`, `migrations`, `rebuild`, `cutover`, and the tables themselves in sql/.
"""
