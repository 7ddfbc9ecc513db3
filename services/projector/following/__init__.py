"""Keeps one partition of one projection at the end of the log.

- `consumer`   reads, maps and writes step by step; used by worker, rebuild and cutover
- `feeds`      what it fills: the tables, or search
- `precedence` lets history go before search
- `worker`     runs it while the partition is ours; backs off, stops, reports why
- `lag`        how far behind it is, computed when asked for
- `prune`      deletes outcomes after their seven days
"""
