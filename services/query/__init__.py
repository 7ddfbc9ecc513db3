"""Query: answers what happened in a chat, from the Postgres read model, and keeps nothing.

Each request reads ONE snapshot: a REPEATABLE READ, READ ONLY transaction, sent as one pipeline, that first takes
the lock a projection switch waits for. So a page, its `has_more` flags, its ticks and the proof of membership
belong to the same moment, and a reader never steps back over a switch. Membership is part of every read; who
never was a member gets the answer of a chat that does not exist. `Gapless-At-Least` waits, bounded, until the
snapshot itself holds the asked outcome. A crash at any line loses nothing: whoever asks again is answered.

Read in this order: routes, parameters and plain_requests (what can be asked), reads (which statements answer it),
sql/, snapshot (how they are run), at_least (waiting), windows and cursors (paging, pure), ticks and shapes (rows to
JSON, pure), errors and refusals, app (life).
"""
