"""The paths of reads, by noun: parameters, statements, JSON, response model and route of each in one file.

- `messages`  a page of history, one message, the newest seq
- `chats`     the caller's chats
- `members`   the present members of a chat
- `reactions` who reacts to a message
- `receipts`  unread counts, and how far each member has read and received
- `commands`  the status of a command
- `me`        the caller
"""
