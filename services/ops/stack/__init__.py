"""The embedded stack: real Kafka, real Postgres and every service as a process of its own, on this machine.

- `embedded`     all of it as one thing
- `supervisor`   keeps child processes running
- `children`     what it runs
- `security`     `--secure`: TLS and least rights everywhere
- `secret`       the secret that development tokens are signed with
- `token`        development tokens
- `address`      where the servers are, for commands that look at them
"""
