"""A gateway that starts warm, and may be killed before it is up."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3

from tests.gateway_rig import Gateway, Realm
from tests.ports import free_port
from tests.waiting import wait_until
from tests.warm_start import ROOT, calm, zygote


@dataclass
class Centre(Gateway):
    """A gateway of the rig that starts warm, and may be killed before it is up."""

    def __post_init__(self) -> None:
        self.sync_port, self.api_port = free_port(), free_port()

    def launch(self, *, before: str = "", cold: bool = False) -> None:
        """Start, and wait for nothing; `cold` and `before` as with a Node."""
        path, log = self.config(), self.data / "log.jsonl"
        if cold:
            with log.open("ab") as out:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "gateway", "--config", str(path)],
                    cwd=ROOT,
                    env=calm(),
                    stdout=out,
                    stderr=out,
                )
        else:
            self.process = zygote().start(["gateway", "--config", str(path)], log=log, before=before)  # type: ignore[assignment]

    def start(self, *, before: str = "") -> None:
        """Start and wait until it is healthy."""
        self.launch(before=before)
        wait_until("a gateway that is up", self.is_up)

    def is_up(self) -> bool:
        """Whether it is healthy. RuntimeError where it has ended."""
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(f"the gateway ended:\n{self.log[-4000:]}")
        try:
            return self.get("/healthz", token="").status == 200
        except (urllib3.exceptions.HTTPError, OSError):
            return False


@contextmanager
def centre(realm: Realm, data: Path) -> Iterator[Centre]:
    """A gateway for the time of the block."""
    gateway = Centre(realm, data)
    try:
        gateway.start()
        yield gateway
    finally:
        if gateway.process is not None and gateway.process.poll() is None:
            gateway.kill()
