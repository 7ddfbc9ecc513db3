"""The writer of one partition: the protocol of docs/log-protocol.md.

- `writer`   the loop around terms: fold, open, serve, start again after anything unknown
- `term`     one term: reads commands, decides batches, appends them, settles them
- `batch`    one append: commands decided against the state and against each other, encoded
- `sends`    the fast path for plain sends whose state is already loaded; equal to decide and evolve
- `_sends`   the compiled part of it
- `hint`     what others say about this partition: the consumer group, and takeover requests from heartbeats
"""
