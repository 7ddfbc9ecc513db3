"""The life of a process.

- `lifecycle`     start, supervise, stop within a deadline, end with a meaningful exit code
- `crashpoints`   named places at which a test may kill the process
- `backoff`       how long to wait before asking again
- `threads`       blocking work in threads that the end of the process does not wait for
- `collector`     keeps Python's cycle collector away from batches
"""
