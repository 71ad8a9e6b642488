"""Bodies in parts: the gateway's production uploads on a real folder, the few lines of gateway/upload_api.py, and the node's duty to ask first."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from gateway.errors import UploadGap, UploadQuota
from gateway.upload_api import Fetched
from gateway.uploads import Uploads
from node.uplink.gateway_client import Problem
from tests.sim.machine import Machine, broken

WIDTH = 8_000.0  # bytes a second: the 64 kbit/s for which figures are promised
CALL_S_MAX = 5.0  # of the link for one call: 1.5 s are aimed at, an estimate is off by a third, a batch by a quarter, and then half as much again


class Parts:
    """Uploads at one gateway. Without a folder it is from before there were any."""

    def __init__(self, machine: Machine, *, taken: bool) -> None:
        self.machine = machine
        where = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a run's own folder
        self.folder = Path(tempfile.mkdtemp(prefix="wasl-sim-", dir=where)) if taken else None
        self.uploads = Uploads(self.folder, lambda: machine.now_us() / 1e6) if self.folder else None

    def fetch(self, node: str) -> Fetched | None:
        """How a batch gets its bodies."""
        return Fetched(self.uploads, node) if self.uploads else None

    def answer(self, node: str, method: str, path: str, part: bytes) -> Any:
        """HEAD or PUT; the process may die when the part is durable and nobody was told."""
        if self.uploads is None:
            return Problem("not-found", {}, 0.0)
        name, offset = path.split("/")[-2:]
        if method == "HEAD":
            return json.dumps({"size": self.uploads.size(node, name)}).encode()
        before = self.uploads.size(node, name)
        try:
            size = self.uploads.write(node, name, int(offset), part)
        except UploadGap as gap:
            return Problem("rewind", {"size": gap.size}, 0.0)
        except UploadQuota:
            return Problem("busy", {"window": 4096}, 1.0)
        if size not in {before, int(offset) + len(part)} or (size != before and int(offset) != before):
            broken(f"a part at {offset} made {before} bytes of an upload {size}")
        self.machine.counts["parts"] += 1
        self.machine.point()
        return json.dumps({"size": size}).encode()

    def discard(self) -> None:
        """The world ends."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


class Told:
    """What a gateway last said of each upload in one life of a box: the next part begins just there."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}

    def said(self, name: str, answer: Any) -> None:
        """An answer came."""
        if isinstance(answer, bytes):
            self._sizes[name] = json.loads(answer)["size"]
        elif answer.code == "rewind":
            self._sizes[name] = answer.members["size"]

    def sends(self, name: str, offset: int) -> None:
        """A part leaves."""
        if offset != self._sizes.get(name):
            broken(f"a part begins at {offset}, but the gateway said {self._sizes.get(name)}")
