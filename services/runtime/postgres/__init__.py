"""Postgres clients.

- `pool`       connection pools; every wait has a deadline
- `session`    the settings that every session pins, also behind a pooler
- `refusals`   why Postgres refuses us, in one sentence
- `sql`        SQL from files of named blocks
"""
