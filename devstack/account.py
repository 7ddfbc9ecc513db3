"""Chooses the account that PostgreSQL runs as: it refuses to run as root, so root starts it as an ordinary user.

That is the owner of an existing data folder, else UNPRIVILEGED_USER, which every system has: starting a development
stack should not create users.
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
    """Return the account to run PostgreSQL as, or None for our own.

    Raises FolderMismatchError if `data_folder` belongs to a user that we cannot become.
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
    """Return the capability that the account needs to access its data and programs; usually None.

    Only root can enter a checkout below /root or a mktemp folder. The alternative would be to open those folders to
    every user of the machine.
    """
    if not _allows(programs / "postgres", uid, gid):
        return CAP_DAC_OVERRIDE
    on_the_way = [*data_folder.absolute().parents, programs.absolute(), *programs.absolute().parents]
    if all(_allows(folder, uid, gid) for folder in on_the_way):
        return None
    return CAP_DAC_READ_SEARCH


def _allows(path: Path, uid: int, gid: int) -> bool:
    """Return whether the permission bits let that user execute the file, or enter the folder."""
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
