"""The proofs. Written apart from sequencer and projector and importing neither: they share only the contract.

- `log/`          proves the log itself: every record, every decision
- `projection/`   proves the tables against the log
- `reading`       reads a partition from its beginning to an end that is known beforehand
- `scratch`       a SQLite file for what does not fit memory
- `sql/`          the statements of both
"""
