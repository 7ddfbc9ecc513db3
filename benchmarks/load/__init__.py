"""What is measured with: conversations, long logs, filled tables, clients, and baselines.

- `conversations`, `filling`                        what is said; a long log in seconds
- `read_model`, `deleted_messages`, `search_rows`   filled tables
- `http_load`, `open_loop`, `pgbench`               load generators, and latencies without coordinated omission
- `stream_readers`                                  thousands of readers of event streams
- `lag`                                             how far tables and search are behind the log meanwhile
- `bare_http`, `log_read`, `trigger`                baselines
"""
