"""SQL of the verifiers: `tables.sql` and `lag.sql` for Postgres, `scratch.sql` for the scratch SQLite file."""
