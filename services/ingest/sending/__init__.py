"""One command out and its outcome back, over Kafka.

- `dispatch`    append, then wait for the reply as long as the client wants
- `publisher`   appends to `chat.commands`, with a bound on what is in flight
- `replies`     reads this process's partition of `chat.replies` and completes waiters
- `batch`       many commands of one request: appended by partition, each settled on its own
- `pending`     a command that is in the log and was not answered in time
- `receipts`    coalesces the receipts of one (chat, user) to the highest

A lost waiter (a crash, a timeout, a lost reply) costs its client a retry and nothing else: the log is the truth.
"""
