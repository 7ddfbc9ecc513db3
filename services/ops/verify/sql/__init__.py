"""SQL of the verifiers: `tables.sql` for Postgres, `scratch.sql` for the scratch SQLite file."""
