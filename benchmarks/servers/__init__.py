"""The real servers and processes that are measured.

- `ground`      servers, logs and databases of a run, and our services on them
- `processes`   the CPU and memory that a process used between two marks
- `database`    the benchmarks' own sessions
"""
