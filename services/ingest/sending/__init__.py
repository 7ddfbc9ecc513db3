"""Sends commands over Kafka and returns their outcomes.

- `dispatch`    append, then wait for the reply as long as the client wants
- `publisher`   appends to `chat.commands`, with a bound on what is in flight
- `replies`     reads this process's partition of `chat.replies` and completes waiters
- `batch`       many commands of one request: appended by partition, each settled separately
- `pending`     a command in the log that has no outcome yet
- `receipts`    coalesces the receipts of one (chat, user) to the highest

A lost waiter (a crash, a timeout, a lost reply) only costs its client a retry: the log is the truth.
"""
