"""The paths of reads, by noun: parameters, statements, JSON, response model and route of each in one file.

- `messages`  a page of history, one message, the newest seq
- `chats`     the caller's chats
- `members`   the present members of a chat
- `threads`   the replies of a thread, the threads of a chat
- `edits`     the earlier texts of a message
- `reactions` who reacts to a message
- `receipts`  unread counts, how far each member has read and received, who has received a message
- `search`    messages by their words
- `commands`  the status of a command
- `me`        the caller
"""
