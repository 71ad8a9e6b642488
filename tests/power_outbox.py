"""A life of the real outbox, as the dice fall."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import apsw

from sync.errors import NoRoom
from sync.outbox import Outbox, Stored
from sync.outbox_arrivals import repeat_key
from sync.outbox_destinations import read_cursor
from sync.outbox_frames import Frame
from sync.outbox_parked import Parked, read_parked
from sync.record import Draft
from sync.transaction import reading
from tests.outbox_rig import FAR, LEDGER, receipted
from tests.power_lives import TILE_LEAVES, Life, Rows, Told, abandon, everything, files_in, look
from tests.sim_disk import Disk
from tests.sim_realm import LOG_SIGNER, TAG, draft

UNPINNED_PART = 0.2  # of the calls, a reader that pins the WAL goes: so it grows, but not beyond what is quickly copied
RESENT_MAX = 3  # messages that a source sends again after a start
STREAMS = ("his", "lab", "rad")
SITE = "lis"  # a system of the site's own
INSTRUMENT = "xn"  # a feed whose frames are acknowledged one by one


class OutboxLife:
    """Calls of an outbox as the dice fall. Each is one transaction; what it said is compared with what is stored at once."""

    def __init__(self, disk: Disk, folder: Path, seed: str, *, quota_bytes: int = 0) -> None:
        self.disk, self.folder, self.path = disk, folder, folder / "outbox.db"
        self.dice = Random(f"outbox {seed}")
        self.quota_bytes = quota_bytes
        rows = look(self.path)
        self.life = Life("outbox.db", files_in(folder))
        self.sent: list[tuple[Draft, Stored]] = []  # with a repeat key, and acknowledged
        self.next = 0
        self.said: list[tuple[Draft, Stored]] = []  # by the last call
        # of each run, up to where the site's own system was given it; a disk that had a life before brings what that one gave
        self.took = {row[2]: row[3] for row in rows if row[:2] == ("destination", SITE)}
        self.pinned: apsw.Connection | None = None
        disk.tape = self.life.tape
        self._mark(self._told(rows))
        self.answers = [rows]  # what was stored when each call was answered
        self.made = self._open()

    def run(self, calls: int) -> Life:
        """Live so many calls, then end without a word."""
        kinds, weights = zip(*self._weights().items(), strict=True)
        try:
            for _ in range(calls):
                self.call(self.dice.choices(kinds, weights)[0])
        finally:
            self.disk.tape = None
            self._unpin()
            self.close()
        return self.life

    def call(self, what: Callable[[], object]) -> None:
        """One call, between the mark of what was answered before and that of its answer."""
        before = self.answers[-1]
        self.told = told = self._told(before)
        self._mark(told)
        self.said = []
        if self.dice.random() < UNPINNED_PART:
            self._unpin()
        try:
            what()
        except NoRoom:
            self.life.count("refused")
            assert look(self.path) == before, "a refused group left something"
            return
        told.under_way = look(self.path)
        self.answers.append(told.under_way)
        self._compare(told.under_way)
        # the answer: from here on it must be there
        self._mark(self._told(told.under_way))
        self.life.count(what.__name__.strip("_"))

    def close(self) -> None:
        abandon(self.made._connection)
        self.made.close()

    def _weights(self) -> dict[Callable[[], object], int]:
        return {
            self._group: 12, self._one: 4, self._large: 2, self._mixed: 5, self._repeat: 2, self._receipt: 3, self._trim: 2,
            self._boot: 1, self._admitted: 1, self._probe: 1, self._stream: 1, self._restart: 1, self._killed: 1, self._pin: 1,
            self._deliver: 5, self._replay: 1, self._frame: 6, self._message: 3, self._settled: 2,
        }  # fmt: skip

    def _told(self, rows: Rows) -> Told:
        # a copy: what is given later is no excuse for a position that stands there now
        return Told(rows, rows, (tuple(self.sent[-RESENT_MAX:]), dict(self.took)))

    def _mark(self, told: Told) -> None:
        self.disk.note("mark", "", value=told)

    def _open(self) -> Outbox:
        made = Outbox(
            self.path, signer=LOG_SIGNER, random=self.dice.randbytes, quota_bytes=self.quota_bytes, vfs=self.disk.name
        )
        made.verify_heads()
        return made

    # -- the calls -----------------------------------------------------------------------------------------------

    def _draft(self, stream: str, most: int = 900) -> Draft:
        self.next += 1
        key = repeat_key("his", f"C{self.next:05}") if self.dice.random() < 0.5 else b""
        return draft(self.next, stream=stream, repeat_key=key, body=self.dice.randbytes(self.dice.randrange(most)))

    def _append(self, drafts: Sequence[Draft], beside: Callable[[], None] | None = None) -> None:
        before = {name: head.frontier.size for name, head in self.made.heads.items()}
        self.said = list(zip(drafts, self.made.append(drafts, beside), strict=True))
        after = {name: head.frontier.size for name, head in self.made.heads.items()}
        self.life.count("tiles", sum(after[name] // TILE_LEAVES - before[name] // TILE_LEAVES for name in after))

    def _compare(self, rows: Rows) -> None:
        """What was acknowledged by the last call stands where it was said to stand."""
        records = {row[:2]: row for row in rows if isinstance(row[0], int)}
        for each, stored in self.said:
            place = self.made.heads[stored.stream].log, stored.seq
            assert records[place][8] == each.body, "acknowledged, and not there"
            if each.repeat_key and not stored.repeated:
                self.sent.append((each, stored))
            self.life.count("repeated" if stored.repeated else "acknowledged")

    def _group(self) -> None:
        stream = self.dice.choice(list(self.made.heads))
        self._append([self._draft(stream) for _ in range(self.dice.randrange(1, 9))])

    def _one(self) -> None:
        self._append([self._draft("his", 200)])

    def _large(self) -> None:
        """Bodies on pages of their own; sometimes more than the page cache holds."""
        self._append([self._draft("his", self.dice.choice((9_000, 60_000)))])

    def _mixed(self) -> None:
        """Several streams in one transaction: the long path."""
        drafts = [self._draft(self.dice.choice(list(self.made.heads))) for _ in range(self.dice.randrange(2, 7))]
        self._append(drafts)
        self.life.count("of several streams", int(len({each.stream for each in drafts}) > 1))

    def _repeat(self) -> None:
        """The source sends again what it has an answer for: the answer is the same, and nothing is stored twice."""
        again = self.dice.sample(self.sent, min(3, len(self.sent)))
        before = {stream: head.frontier.size for stream, head in self.made.heads.items()}
        said = self.made.append([each for each, _ in again]) if again else []
        for (_, first), answer in zip(again, said, strict=True):
            trimmed = (
                self.made.heads[first.stream].trimmed > first.seq
            )  # no body left to compare with: a message like any other
            assert trimmed or answer == first._replace(repeated=True)
            self.life.count("repeated", int(answer.repeated))
        fresh = sum(not answer.repeated for answer in said)
        assert sum(head.frontier.size for head in self.made.heads.values()) == sum(before.values()) + fresh

    def _receipt(self) -> None:
        stream = self.dice.choice(list(self.made.heads))
        receipted(self.made, self.dice.randrange(self.made.heads[stream].frontier.size + 1), stream=stream)

    def _trim(self) -> None:
        stream = self.dice.choice(list(self.made.heads))
        self.life.count("trimmed", self.made.trim(stream, ledger=LEDGER, received_before_us=FAR))

    def _deliver(self) -> None:
        """The site's own system takes the next message of a stream, or does not, or more of them are passed over; then the position moves."""
        head = self.made.heads[self.dice.choice(list(self.made.heads))]
        with reading():  # its thread stands still where it cannot read; here that ends the life
            at = read_cursor(self.made._connection, SITE, head.run)
        if at is None or at.place >= head.end:
            self.made.destinations.open(SITE, head.run, 0)
            return
        last = at.place if self.dice.random() < 0.8 else min(head.end - 1, at.place + 3)
        reason = self.dice.choice(("", "", "", "DST-01", "DST-04"))
        gone = Parked(name=SITE, run=at.run, place=at.place, last=last, reason=reason, at_us=self.next)
        # from here on it has them, whatever becomes of the commit
        self.took[at.run] = self.told.promised[1][at.run] = max(self.took.get(at.run, 0), last + 1)
        self.made.destinations.move(replace(at, place=last + 1), parked=[gone] if reason else [])
        self.life.count("parked" if reason else "delivered")

    def _replay(self) -> None:
        """What stands parked goes, if it was asked for again; else it is asked for."""
        with reading():
            row = next(iter(read_parked(self.made._connection, SITE, replay=True, most=1)), None)
        if row is None:
            self.made.destinations.ask_replay(SITE, None)
        else:
            self.made.destinations.replayed(row, place=row.last + 1, done=0)
            self.life.count("replayed")

    def _transfer(self) -> list[Frame]:
        """The frames of the transfer under way, as the store has them: a start goes on with these."""
        with reading():
            return [frame for frame in self.made.frames.of_feed(INSTRUMENT) if frame.transfer > self._settled_to()]

    def _settled_to(self) -> str:
        return self.made.frames.facts(f"astm:{INSTRUMENT}:").get(f"astm:{INSTRUMENT}:peer", b"").decode()

    def _frame(self) -> None:
        """An instrument's next frames, of one line or two: durable together, then acknowledged."""
        frames = self._transfer()
        at = frames[-1].place + len(frames[-1].text) if frames else 0
        self.next += 1
        # a disk that had a life before has names of that one
        name = frames[-1].transfer if frames else f"{INSTRUMENT}/{int(self._settled_to()[-6:] or 0) + 1:06}"
        text = self.dice.randbytes(self.dice.randrange(1, 250))
        kept = [Frame(name, at, INSTRUMENT, "192.0.2.9", self.next, text)]
        if self.dice.random() < 0.3:
            kept.append(Frame(f"other/{self.next:06}", 0, "other", "192.0.2.10", self.next, text[:9]))
        if self.dice.random() < 0.5:
            self.made.frames.write(kept=kept)
        else:  # they ride with records
            self._append([self._draft("his", 200)], lambda: self.made.frames.put(kept=kept))
            self.life.count("frames beside records", len(kept))
        assert self._transfer()[-1] == kept[0], "kept, and not there as it was"
        self.life.count("frames", len(kept))

    def _message(self) -> None:
        """The transfer is whole: the record and the fact that says so are one transaction; the rows go later."""
        frames = self._transfer()
        if not frames:
            return self._frame()
        body, fact = b"".join(frame.text for frame in frames), f"astm:{INSTRUMENT}:peer"
        self.next += 1
        self._append([draft(self.next, stream="his", body=body, fact=(fact, frames[-1].transfer.encode()))])
        assert not self._transfer()
        self.life.count("of frames")
        return None

    def _settled(self) -> None:
        """What a record holds is deleted with all others that are done."""
        with reading():
            done = {
                frame.transfer for frame in self.made.frames.of_feed(INSTRUMENT) if frame.transfer <= self._settled_to()
            }
        self.made.frames.write(
            dropped=sorted(done), facts=[(f"astm:{INSTRUMENT}:seen", self._settled_to().encode() or None)]
        )
        self.life.count("frames settled", len(done))

    def _boot(self) -> None:
        self.made.start_boot(self.dice.randbytes(16), self.next)

    def _admitted(self) -> None:
        self.made.admitted(boot=self.dice.randbytes(16), ledger=LEDGER, fence=self.dice.randbytes(16).hex())

    def _probe(self) -> None:
        self.made.probe()

    def _stream(self) -> None:
        """One stream more, or another lane for those there are."""
        names = STREAMS[: self.dice.randrange(1, len(STREAMS) + 1)]
        self.made.open_streams(dict.fromkeys(names, self.dice.choice(("critical", "routine", "bulk"))), TAG)

    def _restart(self) -> None:
        """An orderly end: the WAL goes into the database and away."""
        self._unpin()
        self.made.close()
        self.made = self._open()

    def _killed(self) -> None:
        self.close()
        self.made = self._open()

    def _pin(self) -> None:
        """A reader that stays: the WAL cannot begin anew until the next restart of it."""
        self._unpin()
        self.pinned = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
        list(self.pinned.execute("BEGIN; SELECT count(*) FROM header"))

    def _unpin(self) -> None:
        if self.pinned is not None:
            self.pinned.close()
            self.pinned = None


def first_start(folder: Path, vfs: str | None = None) -> None:
    """Make an outbox as a node does that starts for the first time."""
    with closing(Outbox(folder / "outbox.db", signer=LOG_SIGNER, random=Random(1).randbytes, vfs=vfs)) as made:
        made.open_streams({"his": "critical", "lab": "routine"}, TAG)


def start(folder: Path, told: Told) -> None:
    """A start after the power came back: verified, all there, the sources that send again get the answers they got, and it goes on."""
    path = folder / "outbox.db"
    for life in range(2):
        with closing(Outbox(path, signer=LOG_SIGNER, random=Random(life).randbytes)) as made:
            made.verify_heads()
            if life == 0:
                assert everything(made._connection, path.name) in (told.answered, told.under_way), (
                    "not what was answered"
                )
                resent, took = told.promised
                check_positions(made, took)
                _resend(made, resent)
            assert made._connection.pragma("integrity_check") == "ok"


def check_positions(made: Outbox, took: Mapping[int, int]) -> None:
    """No position lies beyond what the site's own system was given, or what is named: what it did not take is sent again, not passed over."""
    for run in {head.run for head in made.heads.values()}:
        found = read_cursor(made._connection, SITE, run)
        assert (found.place if found else 0) <= took.get(run, 0), "a position is beyond what was delivered"


def _resend(made: Outbox, promised: Sequence[tuple[Draft, Stored]]) -> None:
    drafts = [each for each, _ in promised]
    for (_, first), answer in zip(promised, made.append(drafts) if drafts else [], strict=True):
        gone = made.heads[first.stream].trimmed > first.seq
        assert gone or answer == first._replace(repeated=True), "acknowledged twice, as two records"
    made.append([draft(10_000, body=b"after the power came back")])
