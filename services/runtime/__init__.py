"""What every Gapless service needs: settings, clients, logs, metrics, process life.

Nothing in here knows a chat, a command or a projection; a service imports a piece, never the other way
round. A process is started by `lifecycle.run_service`: it configures `logs`, installs the signal handlers,
supervises the service's tasks and ends with an exit code that means something. HTTP services build their
application with `http.build_app`, which wires problem documents (`problems`), health and metrics
(`health`), request ids, trace context and body limits; who is asking is settled by `auth`. Services
without an API of their own answer health checks through `health.OpsServer`. All of it keeps nothing: a
crash of any line here loses no data; the crash seams that tests need are declared through `crashpoints`.

Read in this order: settings, lifecycle, logs, problems, auth, http, health, postgres, sql, crashpoints.
"""
