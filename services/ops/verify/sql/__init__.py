"""SQL of the verifiers: `tables.sql` for Postgres, `rows.sql` and `accepted.sql` for the scratch SQLite file."""
