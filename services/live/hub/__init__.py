"""Who follows what, and what they have not got yet. Pure.

- `hub`     takes each event once and writes its frame to those who follow; knows users' memberships
- `stream`  what one connection follows, and how far it is
- `ring`    the newest events, chained by chat
- `entry`   an event in the ring
"""
