"""The demo's data directory: authority, keys, token and stores outlive a run; configurations and demo.json are of one run."""

import fcntl
import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.tools import pki
from node.tools.demo_devices import DEVICES, TERMINAL, Spot
from node.tools.demo_ports import HOST, Ports
from node.tools.hospital_town import RUN_MAX
from node.tools.pki_files import write_private

NODE, GATEWAY = "clinic-7", "central"
TOKEN_BYTES = 32
LOG_BYTES_MAX = 8 * 1024 * 1024  # a log that is longer when a run begins starts anew


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoFeed:
    """One feed, its own stream; `types` as in the node's configuration, empty = any."""

    name: str
    kind: str = "mllp"
    types: tuple[str, ...] = ()

    def address(self, port: int) -> str:
        """Where it listens, as its clients write it."""
        return f"http://{HOST}:{port}/fhir" if self.kind == "fhir" else f"{HOST}:{port}"


FEEDS = (
    DemoFeed(name="his"), DemoFeed(name="laboratory", types=("ORU^*",)), DemoFeed(name="orders", types=("ORM^*",)),
    DemoFeed(name="fhir", kind="fhir"),
)  # fmt: skip

_NODE_TOML = """# Written anew by each start of the demo.
[node]
name = "{node}"
facility = "DEMO-0007"
site = {{ en = "Wadi Noor Health Centre", ar = "مركز وادي نور الصحي" }}
data_dir = "node/data"

[keys]
link_key = "node/link.key"
link_certificate = "node/link.pem"
log_key = "node/log.key"
log_certificate = "node/log.pem"
ca = "ca/ca.pem"

[gateway]                       # through the link that the demo's page can cut
url = "https://{host}:{ports.link}"
name = "{gateway}"

[web]
listen = "{host}:{ports.web}"
"""
_FEED_TOML = """
[[feeds]]
name = "{feed.name}"
kind = "{feed.kind}"
listen = ["{host}:{port}"]
"""
_GATEWAY_TOML = """# Written anew by each start of the demo.
[gateway]
name = "{gateway}"
data_dir = "gateway/data"

[sync]
listen = "{host}:{ports.sync}"
certificate = "gateway/server.pem"
key = "gateway/server.key"
ca = "ca/ca.pem"
crl = "ca/crl.der"

[cosign]
key = "gateway/cosign.key"
certificate = "gateway/cosign.pem"

[api]
listen = "{host}:{ports.api}"
open_page = true

[[tokens]]                      # the file "token" beside this one holds it
name = "demo"
sha256 = "{sha256}"
release = true
"""


class FolderTaken(Exception):
    """The person's: another demo runs in this directory."""


class DemoFolder:
    """One data directory, held for one demo alone from the first moment on. FolderTaken; OSError: it cannot be made or written."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(self.path / "demo.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise FolderTaken(f"another demo runs in {self.path}") from None
        self.withdraw()  # one of a run that was killed would be taken for ours

    @property
    def node_config(self) -> Path:
        """The configuration of node core and node web."""
        return self.path / "node.toml"

    @property
    def gateway_config(self) -> Path:
        """The gateway's configuration."""
        return self.path / "gateway.toml"

    @property
    def node_data(self) -> Path:
        """Where the core keeps its store and its control socket."""
        return self.path / "node" / "data"

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.path / "ca" / pki.CA_CERTIFICATE

    @property
    def token_file(self) -> Path:
        """The consumer's token, for this user's eyes."""
        return self.path / "token"

    def prepare(self, ports: Ports) -> str:
        """Bring keys and token where they are missing, write the configurations for these ports; give the token."""
        self._make_keys()
        token = self._token()
        values = {"node": NODE, "gateway": GATEWAY, "host": HOST, "ports": ports}
        devices = [device.table(self.spot(ports, place)) for place, device in enumerate(DEVICES)]
        text = _NODE_TOML.format(**values) + "".join([*_feed_toml(ports), *devices])
        self.node_config.write_text(text, encoding="utf-8")
        sha256 = hashlib.sha256(token.encode()).hexdigest()
        self.gateway_config.write_text(_GATEWAY_TOML.format(**values, sha256=sha256), encoding="utf-8")
        return token

    def spot(self, ports: Ports, place: int) -> Spot:
        """What the device with this place in the list may use; its folder is made."""
        folder = self.path / "devices" / DEVICES[place].name
        folder.mkdir(parents=True, exist_ok=True)
        return Spot(port=ports.feed(len(FEEDS) + place), folder=folder)

    def next_run(self) -> int:
        """A number that the runs before had not, so that no control id is used twice in this directory."""
        file = self.path / "run"
        try:
            run = (int(file.read_text(encoding="ascii")) + 1) % (RUN_MAX + 1)
        except (OSError, ValueError):
            run = 1
        write_private(file, f"{run}\n".encode())
        return run

    def log_file(self, name: str) -> Path:
        """Where a process writes; one that grew too long is emptied."""
        folder = self.path / "logs"
        folder.mkdir(exist_ok=True)
        file = folder / f"{name}.log"
        if file.exists() and file.stat().st_size > LOG_BYTES_MAX:
            file.unlink()
        return file

    def announce(self, document: dict[str, Any]) -> None:
        """Replace demo.json atomically; it holds the token, so it is the owner's only."""
        text = json.dumps(document, indent=2, ensure_ascii=False)
        write_private(self.path / "demo.json", f"{text}\n".encode())

    def withdraw(self) -> None:
        """Remove demo.json, and the names of pseudo-terminals: what they name does not run, or is somebody else's by now."""
        (self.path / "demo.json").unlink(missing_ok=True)
        for device in DEVICES:
            (self.path / "devices" / device.name / TERMINAL).unlink(missing_ok=True)

    def close(self) -> None:
        """Let the directory go."""
        self.withdraw()
        os.close(self._lock)

    def _make_keys(self) -> None:
        """Each step leaves whole files or none; a crash between two steps is continued by the next start."""
        ca, node, gateway = self.path / "ca", self.path / "node", self.path / "gateway"
        if not self.ca.exists():
            pki.make_authority(ca, "Wasl demo authority")
        if not (node / f"{pki.LOG}.pem").exists():
            pki.issue_node(ca, node, NODE)
        if not (gateway / f"{pki.COSIGN}.pem").exists():
            pki.issue_gateway(ca, gateway, GATEWAY, [HOST, "localhost"])

    def _token(self) -> str:
        if not self.token_file.exists():
            write_private(self.token_file, secrets.token_urlsafe(TOKEN_BYTES).encode())
        return self.token_file.read_text(encoding="ascii").strip()


def _feed_toml(ports: Ports) -> list[str]:
    tables = []
    for place, feed in enumerate(FEEDS):
        tables.append(_FEED_TOML.format(feed=feed, host=HOST, port=ports.feed(place)))
        if feed.types:
            tables.append(f"\n[feeds.check]\ntypes = {json.dumps(list(feed.types))}\n")
    return tables
