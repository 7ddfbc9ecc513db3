"""The folded state of a partition on this disk. Disposable: deleted at any time, it is folded again from the log.

- `rocks`    reads and writes, in RocksDB; state and position are one write
- `format`   keys and values, to and from bytes. Pure
- `slot`     the first state folder that no living process holds
- `fold`     from a stored position through the event log, by the live path's `evolve`
"""
