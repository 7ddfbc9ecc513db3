"""Inspects a running system, read-only.

- `lag`    the lag of the writer and of each projection, in records and in seconds
- `tail`   follows `chat.events`: each record with its place and its verdict by the validity rule
"""
