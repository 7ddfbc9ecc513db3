"""Typing and presence: what is worth nothing a few seconds later, and never touches the log.

- `signal`    a signal, and its bytes in `chat.signals`
- `exchange`  sends this process's signals, and passes those of all processes to the hub
- `limit`     how often one user may send one
"""
