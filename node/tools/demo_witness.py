"""The demo's witness: asks node and gateway over the interfaces that everybody has, and ticks off what the centre hands out."""

import io
import json
from dataclasses import dataclass, field
from typing import Any, cast

import urllib3

from node.tools.demo_notebook import Notebook

CONNECT_S_MAX, READ_S_MAX = 1.0, 5.0
PAGE_RECORDS = 500  # of one question; what a long cut left is read in several


@dataclass(frozen=True, slots=True, kw_only=True)
class Headless:
    """Where a message without control id stands at the centre."""

    stream: str
    epoch: int
    seq: int


@dataclass(slots=True)
class Witness:
    """Reads on from where it stopped; memory is one record's. Blocking; one thread at a time.

    web, api: URLs of node and gateway. Every method gives None or False where nobody answers.
    """

    web: str
    api: str
    node: str
    token: str
    notebook: Notebook
    headless: list[Headless] = field(default_factory=list)
    _positions: dict[tuple[str, int], int] = field(default_factory=dict)
    _http: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(
            retries=False, timeout=urllib3.Timeout(connect=CONNECT_S_MAX, read=READ_S_MAX)
        )
    )

    def status(self) -> dict[str, Any] | None:
        """The node's status document."""
        found: dict[str, Any] | None = self._json(f"{self.web}/api/status")
        return found

    def is_ready(self) -> bool:
        """Whether the node can commit and sign, and the gateway takes batches."""
        return self._answers(f"{self.web}/readyz") and self._answers(f"{self.api}/healthz")

    def skip_history(self) -> None:
        """Begin at the end: what earlier runs sent is not ours."""
        for stream, epoch, size in self._sizes() or ():
            self._positions[stream, epoch] = size

    def read(self) -> bool:
        """Take in what is new at the centre, a page of each stream at most; whether it answered."""
        sizes = self._sizes()
        if sizes is None:
            return False
        try:
            for stream, epoch, size in sizes:
                if size > self._positions.get((stream, epoch), 0):
                    self._read_page(stream, epoch)
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            return False  # cut off in the middle: what was taken in is not read again
        return True

    def _sizes(self) -> list[tuple[str, int, int]] | None:
        found = self._json(f"{self.api}/v1/nodes/{self.node}/streams", self._bearer)
        return None if found is None else [(row["stream"], row["epoch"], row["size"]) for row in found["streams"]]

    def _read_page(self, stream: str, epoch: int) -> None:
        first = self._positions.get((stream, epoch), 0)
        url = (
            f"{self.api}/v1/nodes/{self.node}/streams/{stream}/records?epoch={epoch}&from={first}&limit={PAGE_RECORDS}"
        )
        response = cast(
            "urllib3.HTTPResponse", self._http.request("GET", url, headers=self._bearer, preload_content=False)
        )
        try:
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            response.auto_close = False  # as urllib3 asks where its answer is read line by line
            for line in io.BufferedReader(response):
                record = json.loads(line)
                if not record["control_id"] and record["verdict"] == "accepted-with-warning":
                    self.headless.append(Headless(stream=stream, epoch=epoch, seq=record["seq"]))
                self.notebook.arrived(stream, record["control_id"])
                self._positions[stream, epoch] = record["seq"] + 1
            response.release_conn()
        finally:
            response.close()

    @property
    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def _answers(self, url: str) -> bool:
        try:
            return self._http.request("GET", url).status == 200
        except (urllib3.exceptions.HTTPError, OSError):
            return False

    def _json(self, url: str, headers: dict[str, str] | None = None) -> Any:
        """What a GET answers, or None."""
        try:
            response = self._http.request("GET", url, headers=headers)
            return json.loads(response.data) if response.status == 200 else None
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            return None
