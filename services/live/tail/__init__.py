"""Reading.

- `tail`      follows all partitions of the log
- `standing`  where the read model stands, and a user's chats there
"""
