"""Query: answers what happened in a chat, from the Postgres read model, and keeps nothing.

Each request reads ONE snapshot: a REPEATABLE READ, READ ONLY transaction, sent as one pipeline, that first takes the
lock a projection switch waits for. So a page, its `has_more` flags, its delivery status and the proof of membership
belong to the same moment, and a reader never steps back over a switch. Membership is part of every read: a stranger
gets the answer of a chat that does not exist. `Gapless-At-Least` waits, bounded, until the snapshot itself holds the
outcome that was asked for. A crash at any line loses nothing: the client asks again.

Rooms:

- `api`        requests to reads, rows to JSON
- `snapshot`   one consistent snapshot of the read model, in one or two round trips
- `sql/`       the statements

Files: `app` (puts it together), `settings`, `metrics`, `errors`, `problems`.
"""
