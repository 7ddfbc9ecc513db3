"""The embedded stack: real Kafka, real Postgres and every service as a process of its own, on this machine.

- `embedded`     the whole stack: start, stop, ports, addresses
- `supervisor`   keeps child processes running
- `children`     the child processes: services and servers
- `security`     `--secure`: TLS and least rights everywhere
- `secret`       the secret that signs development tokens
- `token`        development tokens
- `address`      the addresses of the servers, for other commands
"""
