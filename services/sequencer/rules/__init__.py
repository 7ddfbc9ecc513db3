"""What happens to a command, and what an outcome changes. Pure: no clock, no randomness, no I/O.

- `state`    what deciding sees: chats, members, messages and remembered keys
- `decide`   state and command to a decision
- `evolve`   state and outcome to the next state; the same function for the live path and for recovery
"""
