"""The verifiers. Written independently of sequencer and projector, importing neither: they share only the contract.

- `log/`          verifies the log itself: every record, every decision
- `projection/`   verifies the tables against the log
- `reading`       reads a partition from its beginning to an end that is known in advance
- `scratch`       a SQLite file for what does not fit into memory
- `sql/`          the statements of both
"""
