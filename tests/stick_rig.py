"""A node's outbox without a core, a gateway's ledger without listeners, and a stick that goes to and fro between them."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

from gateway.config import load as load_gateway
from gateway.stick import folders, import_folder, open_desk
from node.clock import SystemClock
from node.config.config import load as load_node
from node.keystore import load as load_keys
from node.stick.back import take_receipts
from node.stick.export import export
from sync.outbox_view import OutboxView
from sync.record import Record
from sync.stick import MANIFEST_NAME, folder_name, read_manifest
from sync.store import LogTable, SafeDatabase
from tests.gateway_rig import Gateway, Realm, TinyNode, message
from tests.node_rig import NAME, Feed, Node

BODIES = [message(n) + b"OBX|" + Random(n).randbytes(4500).hex().encode() for n in range(90)]  # four batches


class Site:
    """A node's outbox without a core, a gateway's ledger without listeners, and a stick that goes to and fro."""

    def __init__(self, realm: Realm, folder: Path, *, sealed: bool = False, gateway: Gateway | None = None) -> None:
        self.gateway = gateway or Gateway(realm, folder / "gateway")
        seal = f'seal_certificate = "{realm.folder}/gateway/seal.pem"' if sealed else ""
        self.rig = Node(realm, folder / "node", feeds=[Feed("his"), Feed("lab")], gateway=self.gateway, link=seal)
        self.config = load_node(self.rig.config())
        self.gateway_file = self.gateway.config()
        if sealed:
            self.hold_keys(realm.folder / "gateway/seal.key")
        self.keystore, self.stick = load_keys(self.config), folder / "stick"
        self.stick.mkdir()
        self.folder = self.stick / folder_name(NAME)
        self.node = TinyNode(realm, self.gateway, NAME, self.rig.store, streams=("his", "lab"))

    def close(self) -> None:
        self.node.close()

    def hold_keys(self, *keys: Path) -> None:
        """The gateway opens what is sealed to these, and to no others."""
        text = self.gateway_file.read_text().partition("[stick]")[0]
        named = ", ".join(f'"{key}"' for key in keys)
        self.gateway_file.write_text(f"{text}[stick]\nkeys = [{named}]\n")

    def export(self, **options):
        return export(self.config, self.keystore, SystemClock(), self.stick, **options)

    def bring(self):
        """The gateway's side: what each folder gave."""
        with open_desk(load_gateway(self.gateway_file)) as desk:
            return [import_folder(desk, folder) for folder in folders(self.stick)]

    def take(self):
        return take_receipts(self.config, self.keystore, SystemClock(), self.stick)

    def receipted(self) -> dict[str, int]:
        with closing(OutboxView(self.rig.store, NAME)) as view:
            return {each.origin.stream: each.receipted for each in view.streams()}

    def ledger(self, stream: str = "his") -> list[Record]:
        """The stream's first epoch at the gateway."""
        return next(iter(self.epochs(stream).values()), [])

    def epochs(self, stream: str = "his") -> dict[int, list[Record]]:
        """What the gateway holds of the stream, epoch by epoch."""
        with self.read() as database:
            rows = database.raw().execute(
                "SELECT epoch, id FROM log WHERE node = ? AND stream = ? ORDER BY epoch", (NAME, stream)
            )
            return {epoch: list(LogTable(database.raw(), log).records(0, 4000)) for epoch, log in list(rows)}

    def bodies(self, stream: str = "his") -> list[bytes]:
        """All bodies of the stream at the gateway, epoch by epoch."""
        return [record.body for records in self.epochs(stream).values() for record in records]

    def held(self) -> int:
        """How many records wait for a person's release."""
        with self.read() as database:
            return next(iter(database.raw().execute("SELECT coalesce(sum(end - first), 0) FROM hold")))[0]

    def alarms(self) -> set[str]:
        """Codes of the gateway's alarms."""
        with self.read() as database:
            return {row[0] for row in database.raw().execute("SELECT code FROM alarm")}

    @contextmanager
    def read(self) -> Iterator[SafeDatabase]:
        database = SafeDatabase(self.gateway.data / "ledger.sqlite", readonly=True)
        try:
            yield database
        finally:
            database.close()

    # -- lives ----------------------------------------------------------------------------------------------------

    def add(self, *names: str) -> None:
        """A message of each name, in stream `his`."""
        self.node.add([message(0, name) for name in names])

    def round(self):
        """Out, there, and home; what each side said."""
        written = self.export()
        (done,) = self.bring()
        home = self.take()
        self.reopen()
        return written, done, home

    def reopen(self) -> None:
        """Look at the outbox anew: somebody else wrote to it."""
        self.node.close()
        self.node = TinyNode(self.gateway.realm, self.gateway, NAME, self.rig.store, streams=("his", "lab"))

    def image(self, folder: Path) -> Path:
        """A copy of the node's disk as it is now."""
        self.node.close()
        shutil.copytree(self.rig.data, folder)
        self.reopen()
        return folder

    def restore(self, image: Path) -> None:
        """Put the disk back to what it was."""
        self.node.close()
        shutil.rmtree(self.rig.data)
        shutil.copytree(image, self.rig.data)
        self.reopen()

    def copy(self, folder: Path) -> "Site":
        """A second living node with the same disk, and a stick of its own."""
        twin = Site(self.gateway.realm, folder, gateway=self.gateway)
        twin.restore(self.image(folder / "image"))
        return twin

    def open_epoch(self, stream: str = "his") -> None:
        """As a start does that knows by its high-water mark, without a link, that its disk is an older one."""
        heads = self.node.outbox.logs(stream)
        self.node.outbox.open_epoch(
            stream, epoch=heads[-1].origin.epoch + 1, tag=self.node.boot[:8], place=heads[-1].end, theirs=None
        )

    def own(self, stream: str = "his") -> list[bytes]:
        """The bodies of the node's stream, over all epochs."""
        with closing(OutboxView(self.rig.store, NAME)) as view:
            logs = [each for each in view.streams() if each.origin.stream == stream]
            return [record.body for each in logs for record in view.table(each.log).records(0, each.size)]

    def same(self, stream: str = "his") -> bool:
        return self.ledger(stream) == self.node.records(0, self.node.size(stream), stream)

    def manifest(self):
        return read_manifest((self.folder / MANIFEST_NAME).read_bytes())

    def forge(self, **changes) -> None:
        (self.folder / MANIFEST_NAME).write_bytes(replace(self.manifest(), **changes).encode())


def named(*names):
    """Messages of these names."""
    return [message(0, name) for name in names]


def keep(site, folder):
    """The stick as it is now, put away."""
    shutil.copytree(site.stick, folder)
    return folder


def use(site, folder):
    """This stick in place of the present one."""
    shutil.rmtree(site.stick)
    shutil.copytree(folder, site.stick)
