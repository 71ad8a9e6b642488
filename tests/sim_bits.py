"""Bit rot as a campaign: one bit of a real outbox or its WAL is flipped, then the node starts, proofreads, sends and exports. Nothing altered may arrive.
Then it goes on: messages are repeated, bodies trimmed, messages repeated again. No answer may name another's position, no body go that is not receipted.

    python tests/sim_bits.py --flips 100000 [--seed 1]      one line at the end; a violation names its flip. As many again among frames (decision 29)
    python tests/sim_bits.py --only db:123456:3             that flip alone: file, byte, bit

What arrives, by link or by stick, is judged by the gateway's own receiver. A flip is noticed where the start refuses, the proofreader or the sender alarms,
or a stream stands still; it is in live data where any row that SQL gives differs. What nobody noticed must be without effect: every record arrived
whole. The WAL is the exception: SQLite drops the group that no longer fits its checksum, and all after it, as after a power cut ("wal cut").
"""

# ruff: noqa: E402  # the size of a tile must be another before anybody takes it over

import argparse
import collections
import shutil
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[1]))
import sync.log

sync.log.TILE_LEAVES = 8  # so that a small outbox has full tiles

import apsw
import structlog

from node.alarms import Alarms
from node.proofreader import Proofreader
from node.stick.legs import batches, legs_of
from node.uplink.gateway_client import Problem
from node.uplink.own_logs import OwnLogs
from node.uplink.uplink import Uplink
from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.errors import CommitUnknown, KeyAbsent, LogBroken
from sync.header import CONTROL_ID, PEER, encode_particulars
from sync.key_ring import KeyRing
from sync.keys import Verifier
from sync.outbox import Outbox
from sync.outbox_arrivals import repeat_key
from sync.outbox_view import OutboxView
from sync.receipt import cosign
from sync.sender import Sender
from sync.sender_events import Alarm, AskRoot, OpenEpoch, Put, SessionOpened, Started
from sync.session import SessionAnswer, TheirStream
from sync.store import UNREADABLE, OutboxTable
from tests.bits_frames import OpenTransfers
from tests.bits_judge import Centre, Violation
from tests.sim_destinations import pages_of, used
from tests.sim_realm import COSIGNER, LOG_SIGNER, NODE, TAG, draft

STREAMS = {"his": 21, "lab": 5, "adt": 2}  # two full tiles and a part, a part, and hardly anything
TRIMMED, RECEIPTED = 4, 12  # of "his"
FAR = 2**60  # a time after all others, in microseconds
COSIGNER_KEY = Verifier(COSIGNER.name, COSIGNER.public)
TURNS_MAX = 400  # calls of one sender: halving each of the batches down to one record takes far fewer
ALWAYS = 0.1  # of the flips that the sender has noticed already, the part that proofreader and start are shown too
AIMED = 0.1  # of the flips, the part that hits where a hit counts and chance seldom strikes
KINDS_BYTES = 8  # of a row before its first value: its length, its id, the kinds of four values
TABLES = ("log", "header", "body", "tile", "cursor", "boot", "fact", "arrival", "frame", "segment")
RECORDS = {"log", "header", "body", "tile", "segment"}  # the others are facts beside the records


class Campaign:
    """One outbox, closed and as a crash left it, and the flips of a seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.dice, self.counts = folder, Random(seed), collections.Counter()
        self.path = folder / "work" / "outbox.db"
        self.complete, self.aimed = True, AIMED
        (folder / "work").mkdir()
        self.truth, self.images, self.drafts = {}, {}, {}
        self.transfers = OpenTransfers()
        self._build()

    def _build(self) -> None:
        made = open_outbox(self.folder / "outbox.db", self.dice)
        with closing(made):
            made.open_streams({"his": "routine", "lab": "critical", "adt": "bulk"}, TAG)
            made.start_boot(b"b" * 16, 1)
            made.admitted(boot=b"b" * 16, ledger="ledger-1", fence="fence")
            for stream, count in STREAMS.items():
                self.drafts[stream] = [self._draft(stream, n) for n in range(count)]
                for first in range(0, count, 7):
                    made.append(self.drafts[stream][first : first + 7])
            head = made.heads["his"]
            self.truth = {name: truth_of(made, name) for name in STREAMS}
            for size in (TRIMMED, RECEIPTED):
                root = sync.log.root_at(OutboxTable(made._connection, head.log), size)
                note = cosign(sign_checkpoint(Checkpoint(head.origin, size, root), LOG_SIGNER), time=1, signer=COSIGNER)
                made.keep_receipt(ledger="ledger-1", origin=head.origin, size=size, receipt=note, at=1)
                if size == TRIMMED:  # the rest of what is receipted is trimmed after the flip
                    assert made.trim("his", ledger="ledger-1", received_before_us=FAR) == TRIMMED
            self.transfers.lay(made, self.dice)
            self.images["wal"] = {f.name: f.read_bytes() for f in self.folder.glob("outbox.db*") if "shm" not in f.name}
        self.images["db"] = {"outbox.db": (self.folder / "outbox.db").read_bytes()}
        raw = apsw.Connection(str(self.folder / "outbox.db"))
        pages = pages_of(raw, "frame") + pages_of(raw, "fact")
        raw.close()
        self.frame_bytes = [at for page in pages for at in used(self.images["db"]["outbox.db"], page)]
        self.whole = {kind: self._dump(kind) for kind in self.images}
        self.receipted = {(row[0],) for row in self.whole["db"]["header"] if row[1] == 1 and row[2] < RECEIPTED}
        self.bodies = {(row[0],) for row in self.whole["db"]["body"]}
        self.again: dict[tuple[str, int], tuple[str, int, int]] = {}  # where a message was stored once more

    def _draft(self, stream: str, n: int):
        """A message that can be repeated, under an id of its own."""
        name = f"{stream}-{n:05}"
        return draft(
            n, stream=stream, body=self._body(n), particulars=encode_particulars([(CONTROL_ID, name), (PEER, "192.0.2.7")]),
            repeat_key=repeat_key("his", name),
        )  # fmt: skip

    def _body(self, n: int) -> bytes:
        return b"MSH|^~\\&|SYNTHETIC|%d|" % n + self.dice.randbytes(self.dice.choice([40, 300, 300, 300, 6000]))

    def _lay(self, kind: str, at: int = 0, bit: int | None = None) -> None:
        for file in self.path.parent.iterdir():
            file.unlink(missing_ok=True)  # a connection that is collected late may take its own -shm along
        for name, data in self.images[kind].items():
            (self.path.parent / name).write_bytes(data)
        if bit is not None:
            name = "outbox.db-wal" if kind == "wal" else "outbox.db"
            with (self.path.parent / name).open("r+b") as file:
                file.seek(at)
                file.write(bytes([self.images[kind][name][at] ^ 1 << bit]))

    def _dump(self, kind: str):
        """All rows as SQL gives them, and the index's; None where it cannot."""
        connection = apsw.Connection(str(self.path)) if self.path.exists() else None
        if connection is None:
            self._lay(kind)
            connection = apsw.Connection(str(self.path))
        try:
            return {table: connection.execute(f"SELECT * FROM {table} NOT INDEXED").fetchall() for table in TABLES}
        except (apsw.Error, ValueError):
            return None
        finally:
            connection.close()

    # -- one flip -------------------------------------------------------------------------------------------------

    def run(self, flips: int, *, keep_going: bool) -> None:
        for _ in range(flips):
            kind = "wal" if self.dice.random() < 0.25 else "db"
            image = self.images[kind]["outbox.db-wal" if kind == "wal" else "outbox.db"]
            at = self._aim(image) if self.dice.random() < self.aimed else self.dice.randrange(len(image))
            try:
                self.flip(kind, at, self.dice.randrange(8))
            except Violation as violation:
                if not keep_going:
                    raise
                self.counts["violations"] += 1
                print(violation, flush=True)

    def run_frames(self, flips: int) -> None:
        """Flips where frames lie, and the fact beside them; then the start of their feed alone."""
        for _ in range(flips):
            at, bit = self.dice.choice(self.frame_bytes), self.dice.randrange(8)
            self.counts["flips among frames"] += 1
            try:
                self._lay("db", at, bit)
                self.transfers.recover(self.path, "db", self.counts)
            except Exception as error:
                raise Violation(f"db:{at}:{bit}: {type(error).__name__}: {error}") from error

    def _aim(self, image: bytes) -> int:
        """A byte of what says of which kind the values of a body's or an arrival's row are: a few hundred of all the bits, and each makes another value.
        Or one of the page that holds the frames.
        """
        if self.dice.random() < 0.5 and len(image) == len(self.images["db"]["outbox.db"]):
            return self.dice.choice(self.frame_bytes)
        salts = [record.salt for made in self.truth.values() for record in made.records]
        return image.rindex(self.dice.choice(salts)) - self.dice.randrange(1, KINDS_BYTES + 1)

    def flip(self, kind: str, at: int, bit: int) -> None:
        """Flip it, and see what comes of it. Raises Violation."""
        try:
            self.counts["flips"] += 1
            self.again.clear()
            self._lay(kind, at, bit)
            self._carry(kind)
            self._lay(kind, at, bit)
            self.transfers.recover(self.path, kind, self.counts)
            self._lay(kind, at, bit)
            noticed, always = self._send(), self.dice.random() < ALWAYS
            if not noticed or always:
                noticed |= self._proofread()
            live = set() if noticed else self._live(kind)
            if not noticed or always:
                self._lay(kind, at, bit)
                noticed |= self._start()
            if noticed or live or always:
                self._lay(kind, at, bit)
                noticed |= self._go_on(kind)
            self._count(kind, live, noticed)
        except Violation as violation:
            raise Violation(f"{kind}:{at}:{bit}: {violation}") from violation
        except Exception as error:
            raise Violation(f"{kind}:{at}:{bit}: {type(error).__name__}: {error}") from error

    def _count(self, kind: str, live: set[str], noticed: bool) -> None:
        if noticed:
            self.counts[f"{kind} noticed"] += 1
        elif live & RECORDS and self.complete:
            self.counts[f"{kind} without effect"] += (
                1  # a column that nobody reads where it was flipped: all arrived whole
            )
        elif live & RECORDS:
            if kind == "wal":
                self.counts["wal cut"] += 1  # SQLite drops the group and all after it, as after a power cut
                return
            raise Violation(f"nobody noticed, and the rows of {sorted(live)} differ")
        elif live:
            self.counts["facts unnoticed"] += 1
        else:
            self.counts[f"{kind} idle"] += 1

    def _live(self, kind: str) -> set[str]:
        found = self._dump(kind)
        if found is None:
            return set(RECORDS)
        return {name for name, rows in found.items() if rows != self.whole[kind][name]}

    def _start(self) -> bool:
        try:
            with closing(open_outbox(self.path, Random(1))) as made:
                made.verify_heads()
        except LogBroken:
            return True
        return False

    def _go_on(self, kind: str) -> bool:
        """Start, take repeats, trim, and take them again, as a node does that nobody stopped. Whether somebody was told."""
        try:
            with closing(open_outbox(self.path, Random(1))) as made:
                made.verify_heads()
                self._repeat(kind, made)
                self._trim(kind, made)
                self._repeat(kind, made)
                made.verify_heads()
        except (LogBroken, CommitUnknown):
            return True  # it says so, and ends
        return False

    def _repeat(self, kind: str, made: Outbox) -> None:
        """Every message comes once more: what is answered with a position stands there; what nobody remembers is stored again."""
        for stream, drafts in self.drafts.items():
            for n, found in enumerate(made.append(drafts)):
                if found.repeated and found[:3] not in {(stream, 1, n), self.again.get((stream, n))}:
                    raise Violation(f"{stream} {n}: a repeat is answered with the position of another")
                if not found.repeated:
                    self.again[stream, n] = found[:3]
                    self.counts[f"{kind} forgotten"] += 1

    def _trim(self, kind: str, made: Outbox) -> None:
        """Of the bodies that were there, none goes but what is receipted."""
        before = self._bodies(made)
        made.trim("his", ledger="ledger-1", received_before_us=FAR)
        # a flipped pointer of a page shows rows that never were: one of those may vanish when its page is put in order
        stored_since = {(row,) for row in range(max(self.bodies)[0] + 1, made._next_row)}
        gone = (before - self._bodies(made)) & (self.bodies | stored_since)
        self.counts[f"{kind} trimmed"] += len(gone)
        if gone - self.receipted:
            raise Violation("a body was trimmed that is not receipted")

    @staticmethod
    def _bodies(made: Outbox) -> set[tuple[int]]:
        """The ids of bodies that can be found: one by one where a page between them is not readable any more."""
        try:
            return set(made._connection.execute("SELECT id FROM body").fetchall())
        except apsw.CorruptError:
            found = set[tuple[int]]()
            for row in range(made._next_row):
                with suppress(apsw.CorruptError):
                    found |= set(made._connection.execute("SELECT id FROM body WHERE id = ?", (row,)).fetchall())
            return found

    def _proofread(self) -> bool:
        alarms = Alarms(lambda: 0)
        reader = Proofreader(store=self.path, node=NODE, alarms=alarms)
        reader._stop.wait = lambda _seconds: False
        with suppress(apsw.Error, LogBroken, ValueError):
            view = OutboxView(self.path, NODE)
            with closing(view):
                reader.read_once(view)
            return bool(alarms.standing())
        return True

    def _send(self) -> bool:
        """Drive the real sender and uplink against the judge. Whether anybody was told of anything."""
        centre, alarms = Centre(self.truth), Alarms(lambda: 0)
        clock = SimpleNamespace(now_us=lambda: 0, monotonic=time.monotonic)
        lane = SimpleNamespace(
            name="routine", client=centre, streams=list, octets_max=lambda asked: asked, records_max=lambda count, *_: count, quantum=2**30,
            is_behind=lambda _fence: False, note_needs=lambda *_, **__: None, is_needed=lambda *_, **__: False, mark_lost=lambda: None, put=lambda _octets, call, **_: call(),
        )  # fmt: skip
        uplink = Uplink(
            node=NODE, gateway=COSIGNER.name, store=self.path, lane=lane, keystore=SimpleNamespace(signer=LOG_SIGNER), writer=None,
            clock=clock, alarms=alarms, boot=b"", dice=lambda: 0.5, highwater=None,
        )  # fmt: skip
        try:
            view = OutboxView(self.path, NODE)
            logs = OwnLogs(view, list, alarms)
            ours = logs.read()
        except (apsw.Error, LogBroken, ValueError):
            return True  # the process ends with it, and the start that follows judges the file
        with closing(view):
            uplink._fence = "fence"
            sender = Sender(root_at=logs.root_at, root_of=logs.root_of, key_at=logs.key_at, dice=lambda: 0.5)
            sender.handle(Started(tuple(ours)), 0.0)
            theirs = tuple(
                TheirStream(stream=name, epoch=1, tag=TAG, size=0, root=sync.log.EMPTY_ROOT) for name in self.truth
            )
            answer = SessionAnswer(fence="fence", ledger="l", cosign_certificate="", held=False, streams=theirs)
            effects = sender.handle(SessionOpened(answer, COSIGNER_KEY), 0.0)
            told = self._converse(uplink, sender, logs, effects)
        self.complete = centre.bodies >= sum(STREAMS.values()) - TRIMMED  # all that was not trimmed
        return told or bool(alarms.standing())

    def _carry(self, kind: str) -> None:
        """Export what is not receipted, for the judge. Raises Violation where less arrives than the outbox has, and nobody is told."""
        centre, told = Centre(self.truth, of_his=RECEIPTED), False
        try:
            view = OutboxView(self.path, NODE)
            with closing(view):
                for leg in legs_of(view, {}):
                    told |= self._carry_leg(view, leg, centre)
        except (LogBroken, *UNREADABLE):
            told = True
        whole = centre.bodies >= sum(STREAMS.values()) - RECEIPTED
        self.counts["carried in part"] += not whole
        if not whole and not told and kind != "wal":
            raise Violation("an export left something out, and told nobody")

    def _carry_leg(self, view, leg, centre) -> bool:
        origin, at = leg.view.origin, leg.first
        found = batches(view, SimpleNamespace(signer=KeyRing.of(LOG_SIGNER)), leg.view, at, known=b"")
        while True:
            try:
                packed = next(found, None)
            except (LogBroken, KeyAbsent):
                return True
            if packed is None:
                return False
            put = centre.put(stream=origin.stream, epoch=origin.epoch, first=at, fence="fence", body=packed.data)
            if packed.damaged or isinstance(put, Problem):
                return True
            at += packed.count

    def _converse(self, uplink, sender, logs, effects) -> bool:
        told = False
        for _ in range(TURNS_MAX):
            told |= any(isinstance(effect, Alarm | AskRoot | OpenEpoch) for effect in effects)
            put = next((effect for effect in effects if isinstance(effect, Put)), None)
            if put is None:
                return told
            effects = sender.handle(uplink._put(put, logs), 0.0)
        raise Violation("the sender turns in circles")


def open_outbox(path: Path, dice: Random) -> Outbox:
    """As the node opens it."""
    return Outbox(path, signer=LOG_SIGNER, random=dice.randbytes)


def truth_of(made: Outbox, stream: str):
    """Origin and records of a log that nothing has happened to."""
    head = made.heads[stream]
    return SimpleNamespace(origin=head.origin, records=list(OutboxTable(made._connection, head.log).records(0, 4000)))


def main() -> int:
    """Run the campaign; 1 where a flip broke a promise."""
    options = argparse.ArgumentParser()
    options.add_argument("--flips", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only", default="")
    options.add_argument("--aimed", type=float, default=AIMED)
    options.add_argument("--keep-going", action="store_true")
    args = options.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))  # each flip would say so
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    began = time.monotonic()
    try:
        campaign = Campaign(folder, args.seed)
        campaign.aimed = args.aimed
        if args.only:
            kind, at, bit = args.only.split(":")
            campaign.flip(kind, int(at), int(bit))
        else:
            campaign.run_frames(args.flips)
            campaign.run(args.flips, keep_going=args.keep_going)
    except Violation as violation:
        print(f"VIOLATION seed {args.seed} {violation}")
        return 1
    finally:
        shutil.rmtree(folder)
    rate = round(campaign.counts["flips"] / (time.monotonic() - began) * 60)
    print(f"bit rot, seed {args.seed}: {dict(campaign.counts)}, 0 altered records, {rate} flips a minute")
    return int(campaign.counts["violations"] > 0)


if __name__ == "__main__":
    sys.exit(main())
