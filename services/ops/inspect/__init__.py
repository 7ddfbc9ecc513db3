"""Looks at a running system, and only looks.

- `lag`    how far the writer and each projection are behind, in records and in seconds
- `tail`   follows `chat.events`: each record with its place and what the validity rule says of it
"""
