"""Names the process that runs a command, for the records of the control schema and for other operators."""

from __future__ import annotations

import getpass
import os
import socket


def this_operator() -> str:
    """Return `user@host:pid` of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user id without an entry in passwd
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}:{os.getpid()}"
