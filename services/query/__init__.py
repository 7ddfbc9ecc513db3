"""Query: answers reads from the Postgres read model, and keeps no state.

Each request reads ONE snapshot: a REPEATABLE READ, READ ONLY transaction, sent as one pipeline, that first takes the
lock a projection switch waits for. So a page, its `has_more` flags, its delivery status and the proof of membership
belong to the same moment, and a reader never goes back in time at a switch. Membership is part of every read: a
non-member gets the same response as for a chat that does not exist. `Gapless-At-Least` waits, up to a limit, until the
snapshot itself contains the requested outcome. A crash at any line loses nothing: the client retries.

Rooms:

- `api`        turns requests into reads, and rows into JSON
- `search`     what a user searches for, and where it is in a text. Pure
- `snapshot`   one consistent snapshot of the read model, in one or two round trips
- `sql/`       the statements

Files: `app` (assembles the service), `settings`, `metrics`, `errors`, `problems`.
"""
