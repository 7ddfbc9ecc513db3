"""Writes to the log for an operator, where no process may decide by itself. Each command says first what is given up.

- `missing_commands`  lets a partition go on after commands were lost for good
"""
