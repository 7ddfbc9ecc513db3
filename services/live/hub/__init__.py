"""Followers of chats, and what each has not got yet. Pure.

- `hub`     takes each event once and writes its frame to the followers; knows users' memberships
- `stream`  what one connection follows, and how far it is
- `ring`    the newest events, chained by chat
- `entry`   an event in the ring
"""
