"""Liveness, readiness and metrics, the same on every service.

- `health`         `/healthz`, `/readyz` and `/metrics`, and a server for services without an API
- `dependencies`   probes Kafka, Postgres and object stores in the background
"""
