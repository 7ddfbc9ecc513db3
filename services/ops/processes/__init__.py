"""Ways to put services into processes.

- `api`              ingest and query behind one port in one process
- `ingest_workers`   ingest as several processes behind one port
"""
