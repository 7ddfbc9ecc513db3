"""What Gapless costs and how fast it is, measured beside what it replaces: `gapless bench <name>`.

Each benchmark is one file with one `run(...)` that returns a dataclass of figures; docs/performance.md has the
method. They start real servers of their own (devstack) and real `gapless` processes with everything on, and check that
the work was done, not only how long it took. Where a baseline is named it runs in turn with ours, in one run on one
machine.

What they share: `conversations` (what is said), `filling` (a long log, quickly), `processes` (what is measured, and its
CPU), `open_loop` (latencies without coordinated omission), `machine` (where it ran).
"""
