"""Whom PostgreSQL runs as: it refuses to run as root, so root hands it to an ordinary account.

The account is the owner of an existing data folder, else `nobody`, which every system has: starting a
development stack should not create users on the machine.
"""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from devstack.errors import FolderMismatchError, MissingRuntimeError
from devstack.launch import CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
from devstack.process import Account

UNPRIVILEGED_USER = "nobody"


def account_for(data_folder: Path, programs: Path) -> Account | None:
    """The account to run PostgreSQL as, or None: ourselves.

    Raises FolderMismatchError where `data_folder` belongs to somebody whom we cannot become.
    """
    owner = data_folder.stat().st_uid if data_folder.exists() else None
    if os.geteuid() != 0:
        if owner is not None and owner != os.geteuid():
            raise FolderMismatchError(
                f"{data_folder} belongs to user {_name(owner)}: start the stack as that user, or choose "
                f"another data folder."
            )
        if _name(os.geteuid()) == str(os.geteuid()):
            raise MissingRuntimeError(
                f"User id {os.geteuid()} has no name on this system and PostgreSQL needs one: start the stack "
                f"as a user of /etc/passwd."
            )
        return None
    try:
        entry = pwd.getpwuid(owner) if owner else pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError:
        wanted = f"with id {owner}" if owner else UNPRIVILEGED_USER
        raise MissingRuntimeError(
            f"PostgreSQL refuses to run as root and this system has no user {wanted}: start the stack as an "
            f"ordinary user, or create that user."
        ) from None
    return Account(
        uid=entry.pw_uid,
        gid=entry.pw_gid,
        capability=needed_capability(entry.pw_uid, entry.pw_gid, data_folder, programs),
    )


def needed_capability(uid: int, gid: int, data_folder: Path, programs: Path) -> int | None:
    """What that account needs beyond its own rights to get at its data and its programs; mostly nothing.

    A checkout below /root or a mktemp folder can be entered by root only. The other way would be to open
    those folders to every user of the machine.
    """
    if not _allows(programs / "postgres", uid, gid):
        return CAP_DAC_OVERRIDE
    on_the_way = [*data_folder.absolute().parents, programs.absolute(), *programs.absolute().parents]
    if all(_allows(folder, uid, gid) for folder in on_the_way):
        return None
    return CAP_DAC_READ_SEARCH


def _allows(path: Path, uid: int, gid: int) -> bool:
    """True when the permission bits let that user execute the file, or pass through the folder."""
    status = path.stat()
    if status.st_uid == uid:
        needed = stat.S_IXUSR
    elif status.st_gid == gid:
        needed = stat.S_IXGRP
    else:
        needed = stat.S_IXOTH
    return bool(status.st_mode & needed)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
