"""The parts that all Gapless services share: settings, clients, logs, metrics, process life.

Nothing here knows of chats, commands or projections; services import from here, never the other way round. All of it
is stateless: a crash at any line loses no data.

Rooms, from the top down (upper may import lower):

- `kafka`      Kafka clients with a deadline on everything
- `health`     liveness, readiness and metrics; the probes of dependencies
- `serving`    the HTTP server and its connections: limits, deadlines, TLS
- `access`     authentication: tokens, and the keys that verify them
- `web`        an HTTP application's parts: middleware, problem documents, fast routes, OpenAPI
- `postgres`   Postgres pools, sessions and SQL files
- `process`    a process's life: start, supervise, stop, exit code; crash points
- `observe`    logs, metrics, trace context
- `settings`   all variables that services share, by concern

Files: `http` (builds the application of a service from these), `tls` (certificates), `object_stores` (stores by URL).
"""
