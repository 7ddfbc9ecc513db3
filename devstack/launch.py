"""Turns a freshly forked child into a server: ties its life to the parent's, then execs the command.

A separate program, because the same steps in a `preexec_fn` would run Python between fork and exec of a multi-threaded
process, which can deadlock. exec keeps the process id, so the parent's handle is the server's. Uses only the standard
library and runs with `-I -S`, so that it takes a few milliseconds.

Usage: launch.py '{"parent_pid": n, "death_signal": n, "account": null | {...}}' program argument...
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 4
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2


class CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class CapabilitySets(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


class System:
    """The three system calls that Python has no function for."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def _check(self, result: int, call: str) -> None:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{call}: {os.strerror(number)}")

    def prctl(self, option: int, *values: int) -> None:
        padded = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
        self._check(self._libc.prctl(ctypes.c_int(option), *padded), f"prctl({option})")

    def permitted(self) -> int:
        sets = (CapabilitySets * 2)()
        header = CapabilityHeader(CAPABILITY_VERSION_3, 0)
        self._check(self._libc.capget(ctypes.byref(header), ctypes.byref(sets)), "capget")
        return int(sets[0].permitted)

    def keep_only(self, capability: int) -> None:
        sets = (CapabilitySets * 2)()
        sets[0] = CapabilitySets(1 << capability, 1 << capability, 1 << capability)
        header = CapabilityHeader(CAPABILITY_VERSION_3, 0)
        self._check(self._libc.capset(ctypes.byref(header), ctypes.byref(sets)), "capset")


def become(uid: int, gid: int, *, capability: int | None) -> None:
    """Give up root for an ordinary account, keeping at most one capability (see account.py)."""
    if capability is None:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
        return
    system = System()
    if not system.permitted() & (1 << capability):
        # Docker's default set has no CAP_DAC_READ_SEARCH, only the wider one.
        capability = CAP_DAC_OVERRIDE
    # Otherwise access(2), with which initdb finds its programs, ignores the capabilities of other users than root.
    system.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    system.prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    system.keep_only(capability)
    system.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def main() -> None:
    plan = json.loads(sys.argv[1])
    command = sys.argv[2:]
    account = plan["account"]
    if account is not None:
        try:
            become(account["uid"], account["gid"], capability=account["capability"])
        except OSError as error:
            sys.exit(f"cannot give up root for user id {account['uid']}: {error}")
    if sys.platform == "linux":
        # After `become`, because a change of user clears it.
        System().prctl(PR_SET_PDEATHSIG, plan["death_signal"])
    if os.getppid() != plan["parent_pid"]:
        # The parent died before the line above took effect, so nothing would ever stop this server.
        sys.exit("the parent process is gone; not starting")
    try:
        os.execv(command[0], command)  # noqa: S606 - becoming that program is the purpose
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
