"""Postgres clients.

- `pool`       connection pools; every wait has a deadline
- `session`    the settings that every session pins, also behind a pooler
- `readable`   waits for a session's socket, with a reader that stays registered
- `refusals`   why Postgres refuses us, in one sentence
- `sql`        SQL from files of named blocks
"""
