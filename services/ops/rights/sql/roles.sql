-- name: roles
-- Least-privilege roles for the read model. Run it as a superuser in its database; it may be run again. Then set a
-- password for the first two (\password in psql), or let them log in with a certificate.
--
-- The first role owns the read model: it is for the projector and `gapless projection …`, and may create schemas in this
-- database, nothing more. The second is for query: it may only read the views of schema chat; the default privileges
-- cover views that later releases add. A role that may read the views gets its rights on the tables behind them from the
-- projector, when it starts and with each new version: restart a projector after you created a role in a database that
-- is in use. The third is for people and their tools: its members see the chats of the user in app.user_id
-- (docs/operations.md, "SQL for people").
DO $roles$ BEGIN CREATE ROLE {owner} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $roles$;
DO $roles$ BEGIN CREATE ROLE {reader} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $roles$;
DO $roles$ BEGIN CREATE ROLE gapless_reader; EXCEPTION WHEN duplicate_object THEN NULL; END $roles$;
ALTER ROLE {owner} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE {reader} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE gapless_reader NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE {reader} SET default_transaction_read_only = on;

REVOKE ALL ON DATABASE {database} FROM PUBLIC;
GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {database} TO {owner};
GRANT CONNECT ON DATABASE {database} TO {reader};
GRANT CONNECT ON DATABASE {database} TO gapless_reader;

CREATE SCHEMA IF NOT EXISTS chat AUTHORIZATION {owner};
GRANT USAGE ON SCHEMA chat TO {reader};
GRANT SELECT ON ALL TABLES IN SCHEMA chat TO {reader};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA chat GRANT SELECT ON TABLES TO {reader};
