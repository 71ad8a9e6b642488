"""Serial lines without a serial line: socat's pair of pseudo-terminals is the cable, and ending socat pulls it."""

import os
import select
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.node_rig import WAIT_S_MAX, Feed, wait_until


class Cable:
    """A null-modem cable: what is written at `far` comes out of `near`, and back."""

    def __init__(self, folder: Path) -> None:
        self.near, self.far = folder / "port-near", folder / "port-far"
        self._socat: subprocess.Popen[bytes] | None = None
        self._far = -1

    def plug(self) -> Self:
        """Both ends are there."""
        self._socat = subprocess.Popen(
            ["socat", *(f"pty,raw,echo=0,link={end}" for end in (self.near, self.far))], stderr=subprocess.DEVNULL
        )
        wait_until("the cable", lambda: self.near.exists() and self.far.exists())
        self._far = os.open(self.far, os.O_RDWR | os.O_NOCTTY)
        return self

    def pull(self) -> None:
        """Both ends are gone, and what was on the way."""
        assert self._socat is not None
        for end in (
            self.near,
            self.far,
        ):  # first: a name that stays may lead to the next pseudo-terminal of somebody else
            end.unlink(missing_ok=True)
        self._socat.kill()
        self._socat.wait()
        os.close(self._far)
        self._socat, self._far = None, -1

    def send(self, data: bytes) -> None:
        """As the device: all of it, at the pace at which the other end takes it."""
        while data:
            data = data[os.write(self._far, data) :]

    def receive(self, length: int) -> bytes:
        """What the device hears, at least so many bytes."""
        found, deadline = b"", time.monotonic() + WAIT_S_MAX
        while len(found) < length:
            if not select.select([self._far], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise RuntimeError(f"never came: {length} bytes, only {found!r}")
            found += os.read(self._far, 4096)
        return found

    def __enter__(self) -> Self:
        return self.plug()

    def __exit__(self, *_: object) -> None:
        if self._socat is not None:
            self.pull()


@dataclass
class Printer(Feed):
    """A line feed of the configuration: over the port `device`, or listening where there is none."""

    device: str = ""

    def text(self) -> str:
        listen = "" if self.device else f'listen = ["127.0.0.1:{self.port}"]\n'
        port = f'[feeds.serial]\nport = "{self.device}"\n' if self.device else ""
        return f'[[feeds]]\nname = "{self.name}"\nkind = "line"\n{listen}{self.lines}\n{port}{self.more}'
