"""A pseudo-terminal under a name, for a simulated device on a serial line. Its name goes before it does."""

import os
import signal
import sys
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class PseudoTerminal:
    """Both ends, open from the start; `ours` is the device's descriptor, `link` names the other end.

    The kernel gives the number of one that is closed to the next: a name that stayed would lead a node to a terminal of somebody else.
    """

    def __init__(self, link: Path) -> None:
        self._link = link
        self.ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)  # held open: without it the first bytes would meet a line that echoes
        link.unlink(missing_ok=True)
        link.symlink_to(os.ttyname(self._theirs))

    def close(self) -> None:
        """Take the name away, then both ends, and what was on the way with them."""
        self._link.unlink(missing_ok=True)
        for end in (self.ours, self._theirs):
            os.close(end)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """For the time of the block SIGTERM ends this process as an exit does, so that names are taken away."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
