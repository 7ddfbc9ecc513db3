"""Ways to run services in processes.

- `api`              ingest and query on one port in one process
- `ingest_workers`   ingest as several processes on one port
"""
