"""The paths of live.

- `event_streams`  `GET /v1/live` and `GET /v1/chats/{id}/live` as server-sent events
- `websockets`     `GET /v1/live` with Upgrade
- `opening`        what both do before the first frame: limits, memberships, cursors
- `route`          the fast path of streams
- `signals`        `POST …/typing` and `…/presence`
- `tickets`        `POST /v1/live-tickets`
"""
