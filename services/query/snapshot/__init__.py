"""One consistent snapshot of the read model per request.

- `reader`     BEGIN, lock, statements and COMMIT, as one pipeline
- `pipeline`   prepared statements sent together, and their rows
- `at_least`   waits until the read model holds an outcome
- `feeding`    whether the read model is still fed; shown as a metric and on /readyz
"""
