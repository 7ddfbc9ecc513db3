"""The paths of reads, by noun: parameters, statements, JSON, response model and route of each in one file.

- `messages`  a page of history, one message, the newest seq
- `chats`     the caller's chats
- `members`   the present members of a chat
- `threads`   the replies of a thread, the threads of a chat
- `edits`     the earlier texts of a message
- `reactions` who reacts to a message
- `receipts`  unread counts, how far each member has read and received, who has received a message
- `search`    messages by their words
- `changes`   what changed in a chat since a position
- `sync`      what changed in all chats of the caller since a cursor
- `commands`  the status of a command
- `me`        the caller
"""
