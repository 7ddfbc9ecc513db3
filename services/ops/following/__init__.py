"""Follows a chat from outside, over the HTTP API: `gapless chat follow`.

- `event_stream`   bytes of an event stream become events, by the HTML standard. Pure
- `followed_chat`  which frames are new, and when some are missing. Pure
- `follower`       the stream, the reconnects, and the history of what a stream left out
"""
