"""A ledger without listeners: its clock, its meter, its death, and the calls of nodes."""

import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import apsw
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.ledger import PutCall, SessionCall
from gateway.ledger_sqlite import FREE_BYTES_MIN, Dice, SqliteLedger
from gateway.ledger_view import LedgerView
from sync.batch import decode, encode
from sync.certificates import der, read
from sync.keys import FileSigner
from sync.session import OwnStream, SessionRequest
from tests.gateway_rig import GATEWAY, Realm, TinyNode
from tests.sim_disk import Disk

WAIT_S = 30


def spy(function, tell):
    def told(*arguments):
        tell()
        return function(*arguments)

    return told


def full_at(calls: int):
    """Some calls that pass, and one for which there is no room."""
    yield from range(calls)
    raise apsw.FullError("database or disk is full")


class Meter:
    """What the ledger told."""

    def __init__(self) -> None:
        self.groups, self.alarms = [], []

    def committed(self, *, calls, records, seconds):
        self.groups.append((calls, records))

    def alarm(self, code, node, stream):
        self.alarms.append((code, node, stream))


class Clock:
    """Time that stands still unless it is told to move."""

    def __init__(self) -> None:
        self.us, self.seconds = 1_800_000_000_000_000, 100.0


class Bench:
    """One ledger with its clock, meter and death."""

    def __init__(self, realm: Realm, path, *, vfs: str | None = None) -> None:
        keys = realm.folder / "gateway"
        key = load_pem_private_key((keys / "cosign.key").read_bytes(), None)
        self.clock, self.meter, self.died, self.dead = Clock(), Meter(), [], threading.Event()
        self.signer, self.free = FileSigner(GATEWAY, key), 2 * FREE_BYTES_MIN
        dice = Dice(
            now_us=lambda: self.clock.us,
            monotonic=lambda: self.clock.seconds,
            random=os.urandom,
            free_bytes=lambda: self.free,
        )
        self.ledger = SqliteLedger(
            path, cosigner=self.signer, cosign_certificate=der(read((keys / "cosign.pem").read_bytes())), dice=dice, meter=self.meter,
            on_death=self.die, vfs=vfs,
        )  # fmt: skip

    def die(self, error: BaseException) -> None:
        self.died.append(error)
        self.dead.set()

    def bury(self, sim: Disk) -> None:
        """Let the dead writer's connection go while the disk works again."""
        sim.arm(0)
        self.ledger._thread.join(WAIT_S)
        self.died.clear()
        gc.collect()

    def session(
        self,
        node: TinyNode,
        *,
        boots=(),
        fence=None,
        boot=None,
        streams=None,
        connected_at=0.0,
        log_certificate=None,
        heads=(),
    ):
        streams = streams or [
            OwnStream(stream=s, epoch=1, tag=node.origin(s).tag, lane="routine") for s in node.streams
        ]
        request = SessionRequest(
            boot=boot or node.boot,
            boots=tuple(boots),
            fence=node.fence if fence is None else fence,
            log_certificate="",
            streams=tuple(streams),
            heads=heads,
        )
        certificate = log_certificate or der(read((node.keys / "log.pem").read_bytes()))
        call = SessionCall(node=node.name, request=request, log_certificate=certificate, connected_at=connected_at)
        return self.ledger.session(call)

    def admit(self, node: TinyNode, **options):
        opened = self.session(node, **options).result(WAIT_S)
        node.fence = opened.fence
        return opened

    def put(self, node: TinyNode, first: int, end: int, stream: str = "his"):
        batch = decode(encode(node.batch(first, end, stream)))
        return self.ledger.put(
            PutCall(node=node.name, stream=stream, epoch=1, first=first, fence=node.fence, batch=batch)
        )


@contextmanager
def bench_at(realm: Realm, path: Path) -> Iterator[Bench]:
    """A ledger that runs for the time of the block, and does not die in it."""
    found = Bench(realm, path)
    found.ledger.start()
    yield found
    if found.ledger.alive:
        found.ledger.stop()
    assert not found.died


@contextmanager
def views_of(path: Path) -> Iterator[Callable[[], LedgerView]]:
    """Opens views of a ledger, which end with the block."""
    with ExitStack() as views:
        yield lambda: views.enter_context(closing(LedgerView(path)))
