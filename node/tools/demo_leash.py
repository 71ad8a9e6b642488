"""Runs a command that dies with its parent, however that one ends: `python demo_leash.py PARENT COMMAND…`.

The kernel sends the signal, so not even a SIGKILL of the parent leaves the command behind. It is a program of its own
because the same call between fork and exec of a process with threads may deadlock. Standard library only: it starts at once.
"""

import ctypes
import os
import signal
import sys
from typing import NoReturn

PR_SET_PDEATHSIG = 1  # linux/prctl.h; kept across exec


def run(parent: int, command: list[str]) -> NoReturn:
    """Become `command`, tied to the process `parent`."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before we were tied to it
            raise SystemExit(1)
    os.execv(command[0], command)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    run(int(sys.argv[1]), sys.argv[2:])
