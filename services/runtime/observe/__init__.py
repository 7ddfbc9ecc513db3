"""Logs, metrics and traces of a process.

- `logs`             structured logs
- `tracebacks`       exceptions without the user data they may carry
- `plain_text`       escapes characters that control a terminal
- `repeated_lines`   bounds how often the same line is written
- `metrics`          the metrics that all services share
- `trace_context`    W3C `traceparent`
"""
