"""What Gapless costs and how fast it is, measured in turn with what it replaces: `gapless bench <name>`.

Each benchmark is one file with one `run(...)` that returns a dataclass of figures; docs/performance.md has the method.
They start real servers of their own (devstack) and real `gapless` processes with everything on, and check that the work
was done, not only how long it took. A baseline runs in turn with ours, in one run on one machine.

- `cli`       the options of each benchmark, and how its figures are printed
- `run`       the benchmarks
- `load`      what is said and how it gets in: generators and baselines
- `servers`   the servers and processes that are measured
- `report`    from results to docs/performance.md
"""
