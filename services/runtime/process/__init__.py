"""The life of a process.

- `lifecycle`     start, supervise, stop within a deadline, exit with a meaningful code
- `crashpoints`   named places at which a test may kill the process
- `backoff`       how long to wait before a retry
- `tasks`         ends tasks, also if one loses its cancellation
- `threads`       blocking work in threads that process exit does not wait for
- `collector`     keeps Python's garbage collector from scanning batches
"""
