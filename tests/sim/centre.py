"""A gateway: the production ledger and receiver behind the few lines of gateway/api.py that need no judgement."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

from gateway.errors import Busy, GatewayFull, LedgerLost, SwapLost
from gateway.ledger import EpochCall, PutCall, ReleaseCall, RootCall, SessionCall
from gateway.ledger_rows import Rows
from gateway.ledger_sqlite import FREE_BYTES_MIN, SCHEMA, Dice, SqliteLedger
from gateway.log_certificates import LogCertificates
from node.uplink.gateway_client import FENCE_HEADER, Problem
from sync.agreement import Told
from sync.batch import decode
from sync.context import CONTEXT_BYTES_MAX, recall
from sync.dictionary import EMPTY
from sync.errors import BadBatch, BadCertificate, BadUpload, UnknownDictionary
from sync.held import rewind_members
from sync.names import Origin
from sync.receipt import SHORT_QUERY
from sync.receiver import Receipt, Receiver, Refuse, Taken
from sync.release import Release
from sync.session import SessionAnswer, TheirStream, read_request
from tests.sim.agenda import Agenda, Died
from tests.sim.disk import roll_back
from tests.sim.keys import Identity
from tests.sim.machine import EPOCH_US, Machine, broken

UPLOADS = "/v1/uploads/"
NO_LIST: Any = SimpleNamespace(revokes=lambda _certificate: False)  # stands where a gateway has its validity list
COMMIT_S = 0.03  # of the centre's disk
RESTART_S = 3.0
_CONTEXT = "SELECT id, tag FROM log WHERE node = ? AND stream = ? AND epoch = ? AND size >= ?"


@dataclass(slots=True)
class Asked:
    """A call under way at the gateway, and where its answer goes."""

    node: str
    method: str
    path: str
    body: bytes
    headers: dict[str, str]
    connected_at: float
    whole: bool
    reply: Callable[[Any], None]
    fetch: Any = None
    sent: bytes = b""  # what it wants not to be told again


class Effects(list[Any]):
    """A receiver's effects: performing each is counted, and a point at which the process may die."""

    def __init__(self, centre: "Centre", effects: list[Any]) -> None:
        super().__init__(effects)
        self._centre = centre

    def __iter__(self) -> Iterator[Any]:
        for effect in super().__iter__():
            self._centre.effect()
            yield effect


class CountingReceiver(Receiver):
    """The production receiver; a crash may come between any two of its effects, before or after the driver performed them."""

    centre: "Centre"

    def handle(self, event: Any, now: int) -> Any:
        return self.centre.performed(super().handle(event, now))


class Centre(Machine):
    """One gateway on one disk. `cosign`: its key and certificate, which may be renewed at a start."""

    def __init__(self, agenda: Agenda, disk: Any, counts: dict[str, int], *, cosign: Identity, dice: Random, anchor: Any, judges_by_clock: bool) -> None:  # fmt: skip
        super().__init__(agenda, disk, counts)
        self.cosign, self.dice = cosign, dice
        # where no key changes all certificates are good, whatever the clock does
        self.judge = LogCertificates(anchor, NO_LIST, lambda: (self.now_us() if judges_by_clock else EPOCH_US) / 1e6)
        self.path = Path(disk.path)
        self.truth: Any = None
        self.ledger: Any = None
        self.rows: Any = None
        self.signed_at = 0
        self.connection: Any = None
        self.turn_asked = False
        self.busy_until = 0.0
        self.nearly_full_until = 0.0
        self.parts: Any = None

    # -- a process's life ------------------------------------------------------------------------------------------

    def start(self) -> None:
        if not self.up:
            self.life += 1
            self.up, self.turn_asked = True, False
            self.counts["starts"] += 1
            self.guarded(self.life, self._start)

    def _start(self) -> None:
        self.ledger = ledger = SqliteLedger(
            self.path, cosigner=self.cosign.signer, cosign_certificate=self.cosign.der,
            dice=Dice(now_us=self.now_us, monotonic=self.monotonic, random=self.dice.randbytes, free_bytes=self._free), meter=self, on_death=print,
        )  # fmt: skip
        ledger._receiver = receiver = CountingReceiver(self.cosign.signer)
        receiver.centre = self
        # as SqliteLedger._run begins
        from gateway import ledger_sqlite  # the name that the bench replaced

        self.connection = ledger_sqlite.create(self.path, SCHEMA).raw()
        self.rows = Rows(self.connection)
        self.watch()

    def fall(self) -> None:
        if not self.up:
            return
        self.up, self.fuse = False, -1
        self.life += 1
        if self.disk.connection is not None:
            roll_back(self.disk.connection)
            # what its last transaction left came under the hold of before, whatever the next start finds
            self.truth.scan(self)
        self.disk.fall()
        self.agenda.after(RESTART_S + self.dice.random() * 5, self.start)

    def _free(self) -> int:
        return 0 if self.nearly_full_until > self.agenda.now else FREE_BYTES_MIN

    # -- what the ledger tells -------------------------------------------------------------------------------------

    def committed(self, *, calls: int, records: int, seconds: float) -> None:
        """Meter."""

    def alarm(self, code: str, node: str, stream: str) -> None:
        """Meter."""
        self.truth.centre_alarm(code, stream)

    def performed(self, effects: Any) -> Any:
        """The receiver's effects, given one by one as the ledger asks for them and for the last: a crash may come before any."""
        if not effects:
            broken("the receiver gave no answer")
        return Effects(self, effects)

    # -- calls -----------------------------------------------------------------------------------------------------

    def arrive(self, asked: Asked) -> None:
        """A request is here, whole or not."""
        life = self.life
        if not asked.whole:
            # Content-Length says that something is missing: no answer. And what is left must never pass for a batch
            if asked.method == "PUT" and not asked.path.startswith(UPLOADS):
                try:
                    decode(asked.body)
                except (BadBatch, UnknownDictionary):
                    return
                broken("a cut body was taken for a batch")
            return
        if self.busy_until > self.agenda.now:
            asked.reply(Problem("busy", {"window": 4096}, 1.0))
            return
        if asked.path.startswith(UPLOADS):
            asked.reply(self.parts.answer(asked.node, asked.method, asked.path, asked.body))
            return
        try:
            future = self._call(asked)
        except BadBatch:
            asked.reply(Problem("bad-batch", {}, 0.0))
            return
        except BadCertificate:
            asked.reply(Problem("bad-certificate", {}, 0.0))
            return
        except BadUpload:
            asked.reply(Problem("bad-upload", {}, 0.0))
            return
        except UnknownDictionary:
            asked.reply(Problem("unknown-dictionary", {}, 0.0))
            return
        except Busy:
            asked.reply(Problem("busy", {}, 1.0))
            return
        future.add_done_callback(lambda done: self._done(life, asked, done))
        if not self.turn_asked:
            self.turn_asked = True
            self.after(COMMIT_S * (0.2 + self.dice.random()), self._turn)

    def _call(self, asked: Asked) -> Any:
        """The endpoints of gateway/api.py."""
        match asked.method, asked.path.split("/")[2:]:
            case "POST", ["session"]:
                return self.ledger.session(self._session(asked))
            case "POST", ["streams", stream, "epochs"]:
                fence = asked.headers[FENCE_HEADER]
                return self.ledger.epoch(EpochCall(node=asked.node, stream=stream, fence=fence, statement=asked.body))
            case "GET", ["streams", stream, question]:
                epoch, _, size = question.partition("?size=")
                return self.ledger.root(RootCall(node=asked.node, stream=stream, epoch=int(epoch), size=int(size)))
        return self.ledger.put(self._put(asked))

    def _session(self, asked: Asked) -> SessionCall:
        request = read_request(asked.body)
        found = self.judge.current(request.log_certificate.encode(), asked.node)
        earlier = self.judge.earlier(request.earlier_certificates, asked.node)
        return SessionCall(
            node=asked.node, request=request, log_certificate=found, connected_at=asked.connected_at, earlier=earlier
        )

    def _put(self, asked: Asked) -> PutCall:
        path, _, query = asked.path.partition("?")
        _, _, _, stream, epoch, first = path.split("/")
        asked.fetch = self.parts.fetch(asked.node)
        recalled = partial(self._context, asked.node, stream, int(epoch), int(first))
        batch = decode(asked.body, EMPTY, asked.fetch, recalled)
        asked.sent = batch.checkpoint if query == SHORT_QUERY else b""
        return PutCall(
            node=asked.node, stream=stream, epoch=int(epoch), first=int(first), fence=asked.headers[FENCE_HEADER], batch=batch,
            vouched=self.judge.vouched(batch),
        )  # fmt: skip

    def _context(self, node: str, stream: str, epoch: int, first: int, count: int) -> bytes:
        """As the ledger's view gives it."""
        found = next(iter(self.connection.execute(_CONTEXT, (node, stream, epoch, first))), None)
        if found is None:
            raise UnknownDictionary("no such records")
        self.counts["batches with a context"] += 1
        return recall(self.rows.table(found[0]), Origin(node, stream, epoch, found[1]), first, count)

    def release(self) -> None:
        """A person releases what is held."""
        node, self.signed_at = self.truth.world.node, self.signed_at + 1  # a person's clock, which only goes forward
        logs = tuple(held.origin for held in self.rows.heads(node))
        word = (
            Release(gateway=self.truth.world.gateway, node=node, at=self.signed_at, logs=logs).text().encode() + b"\n"
        )
        self.ledger.release(ReleaseCall(node=node, operator="simulated", statement=word, logs=logs, at=self.signed_at))
        if not self.turn_asked:
            self.turn_asked = True
            self.after(COMMIT_S, self._turn)

    def _turn(self) -> None:
        """One transaction of the ledger, as its thread makes it."""
        self.turn_asked = False
        ledger, before = self.ledger, self.truth.fence_of(self)
        group = ledger._with_room(ledger._take())
        calls = [waiting.call for waiting in group]
        self.truth.releases = any(
            isinstance(each, ReleaseCall) and any(isinstance(later, SessionCall) for later in calls[n:])
            for n, each in enumerate(calls)
        )
        if group:
            try:
                ledger._commit(self.connection, self.rows, group)
            except LedgerLost:
                raise Died from None
        self.truth.committed(self, group, before)

    def _done(self, life: int, asked: Asked, future: Any) -> None:
        """The ledger answered: what the answer says must be true now."""
        if life != self.life:
            return
        self.point()
        try:
            self._settle(asked, future)
        except Exception as error:  # a Future keeps to itself what its callbacks raise
            broken(f"{type(error).__name__}: {error}")

    def _settle(self, asked: Asked, future: Any) -> None:
        error = future.exception()
        if isinstance(error, GatewayFull | Busy | SwapLost):
            asked.reply(Problem("busy", {}, 5.0 if isinstance(error, GatewayFull) else 1.0))
        elif error is not None:
            broken(f"the ledger failed: {error!r}")
        else:
            asked.reply(self._answer(asked, future.result()))

    def _answer(self, asked: Asked, found: Any) -> Any:
        if isinstance(found, Receipt):
            self.truth.receipted(self, found.note)
            if asked.fetch is not None:
                asked.fetch.used()
            return found.note
        if isinstance(found, Refuse):
            members = rewind_members(found.held) if found.code == "rewind" else {}
            return Problem(found.code, json.loads(json.dumps(members)), 0.0)
        if isinstance(found, Taken):
            if found.receipt:
                self.truth.receipted(self, found.receipt)
            return json.dumps({**rewind_members(found.held), "receipt": found.receipt.decode()}).encode()
        if isinstance(found, Told):
            told = {"tag": found.tag, "size": found.size, "root": found.root.hex(), "opening": found.opening.decode()}
            return json.dumps(told).encode()
        self.truth.admitted(self, asked, found)
        return SessionAnswer(
            fence=found.fence, ledger=self.ledger.id, cosign_certificate=self.cosign.pem, held=found.held,
            streams=tuple(
                TheirStream(stream=log.origin.stream, epoch=log.origin.epoch, tag=log.origin.tag, size=log.frontier.size, root=log.frontier.root, key=log.key)
                for log in found.logs
            ),
            context=CONTEXT_BYTES_MAX if decode.__module__ == "sync.batch" else 0,
        ).encode()  # fmt: skip
