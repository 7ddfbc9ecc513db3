"""The paths of live.

- `event_streams`  `GET /v1/live` and `GET /v1/chats/{id}/live` as server-sent events
- `opening`        what both kinds of streams do before the first frame: limits, memberships, cursors
- `route`          the caller, problems
"""
