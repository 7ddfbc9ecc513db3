-- name: roles
-- Least-privilege roles for the read model; run it as a superuser in its database, as often as you like. Then give each
-- role a password (\password in psql), or let it log in by a certificate.
--
-- The first role owns the read model: the projector, and `gapless projection …`. It may make schemas in this database,
-- and nothing beyond it. The second is query's: it may read the views of schema chat, and nothing else; the default
-- privileges are for the views that later releases add. They read the tables by the right of their owner, so that a
-- rebuild or a switch grants nothing.
DO $roles$ BEGIN CREATE ROLE {owner} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $roles$;
DO $roles$ BEGIN CREATE ROLE {reader} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $roles$;
ALTER ROLE {owner} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE {reader} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE {reader} SET default_transaction_read_only = on;

REVOKE ALL ON DATABASE {database} FROM PUBLIC;
GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {database} TO {owner};
GRANT CONNECT ON DATABASE {database} TO {reader};

CREATE SCHEMA IF NOT EXISTS chat AUTHORIZATION {owner};
GRANT USAGE ON SCHEMA chat TO {reader};
GRANT SELECT ON ALL TABLES IN SCHEMA chat TO {reader};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA chat GRANT SELECT ON TABLES TO {reader};
