"""Bit rot under a destination, as a campaign: one bit of a real outbox or its WAL is flipped, then the production carrier goes on from it to a system
that takes what it is given. Nothing altered may come there, and no position may pass a message that is neither there nor named as parked.

    python tests/sim_destinations.py --flips 20000 [--seed 1]   one line at the end; a violation names its flip
    python tests/sim_destinations.py --only db:123456:3         that flip alone: file, byte, bit

A flip is told where the start refuses, the process ends, or the carrier alarms. What nobody told must be without effect: every message came.
A quarter of the flips is aimed at the tables of the destinations themselves.
"""

import argparse
import collections
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import apsw
import structlog

from node.alarms import Alarms
from node.destinations.carrier import Carrier
from node.destinations.errors import STANDING
from node.destinations.plug import TAKEN, End, Outcome, Outgoing
from sync.errors import CommitUnknown, CursorLost, LogBroken
from sync.header import common_start
from sync.outbox import Outbox
from sync.outbox_parked import read_parked
from sync.record import Kind, Verdict
from tests.sim_realm import LOG_SIGNER, NODE, TAG, draft

STREAMS = {"his": 24, "lab": 6}
NOT_FOR_IT: dict[int, dict[str, Any]] = {
    9: {"common": common_start(kind=Kind.TEST, facility="rawdah", feed="his", content_type="application/hl7-v2+er7")},
    14: {"verdict": int(Verdict.REJECTED)},
}  # of "his"
TAKEN_UP_TO = 8  # of "his", before the flip
REFUSED = {2, 4}  # of these; the first is asked for again
NAME = "lis"
AIMED = 0.25  # of the flips, the part that hits the destinations' own pages
ENDS = (LogBroken, CommitUnknown, CursorLost, apsw.Error, ValueError)  # the process ends with it, or does not start


class Violation(Exception):
    """Something that must never be."""


class System:
    """The destination: it takes all but what it refuses; where nothing more comes, the carrier is stopped."""

    def __init__(self, refuses: Callable[[Outgoing], bool] = lambda _: False, until: int = 10**9) -> None:
        self.got: list[Outgoing] = []
        self.carrier: Any = None
        self._refuses, self._until = refuses, until

    def deliver(self, outgoing: Outgoing) -> Outcome:
        if outgoing.place >= self._until:
            self.carrier.stop()
            return Outcome(End.LATER, "DST-10")
        if self._refuses(outgoing):
            return Outcome(End.REFUSED, "DST-01", "AE")
        self.got.append(outgoing)
        return TAKEN

    def rest(self) -> None:
        self.carrier.stop()

    def close(self) -> None:
        """Nothing is open."""


def carry(
    path: Path, made: Outbox, system: System, streams: tuple[str, ...] = tuple(STREAMS)
) -> tuple[Carrier, Alarms]:
    """Run the production carrier until nothing comes any more. Raises what ends the process."""
    alarms = Alarms(lambda: 0)
    destination: Any = SimpleNamespace(
        name=NAME, streams=streams, types=(), alarm_minutes=1, kind="folder", on_refusal="park", sequence_numbers=False
    )
    writer: Any = SimpleNamespace(order=lambda work: SimpleNamespace(result=lambda: work(made)))
    clock: Any = SimpleNamespace(now_us=lambda: 0, monotonic=lambda: 0.0)
    system.carrier = carrier = Carrier(
        destination, system, node=NODE, store=path, writer=writer, clock=clock, alarms=alarms, dice=lambda: 0.5
    )
    carrier._wake.wait = lambda _seconds=None: False  # type: ignore[method-assign]
    carrier.run()
    return carrier, alarms


def body(stream: str, n: int, dice: Random) -> bytes:
    """A small message of an invented person."""
    name = dice.choice(("مريض^تجريبي", "Test^Patient"))
    note = "".join(dice.choice("abcdefgh ") for _ in range(dice.choice((40, 300, 300, 5000))))
    return f"MSH|^~\\&|LAB|TEST|HIS|TEST|20300101||ORU^R01|{stream}-{n:05}|P|2.5\rPID|1||9{n:08}||{name}\rNTE|1||{note}\r".encode()


class Campaign:
    """One outbox with a destination in the middle of its work, and the flips of a seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.dice, self.counts = folder, Random(seed), collections.Counter[str]()
        self.path = folder / "work" / "outbox.db"
        (folder / "work").mkdir()
        self.bodies: dict[tuple[str, int], bytes] = {}
        self.images: dict[str, dict[str, bytes]] = {}
        self._build(folder / "outbox.db")

    def _build(self, path: Path) -> None:
        with closing(open_outbox(path)) as made:
            made.open_streams(dict.fromkeys(STREAMS, "routine"), TAG)
            for stream, count in STREAMS.items():
                drafts = []
                for n in range(count):
                    more = NOT_FOR_IT.get(n, {}) if stream == "his" else {}
                    drafts.append(draft(n, stream=stream, body=body(stream, n, self.dice), **more))
                    if not more:
                        self.bodies[stream, n] = drafts[-1].body
                for first in range(0, count, 5):
                    made.append(drafts[first : first + 5])
            self.runs = {made.heads[stream].run: stream for stream in STREAMS}
            for run in self.runs:
                made.destinations.open(NAME, run, 0)
            system = System(lambda outgoing: outgoing.place in REFUSED, TAKEN_UP_TO)
            carry(path, made, system, ("his",))
            self.before = {(each.stream, each.place) for each in system.got}
            rows = [each.id for each in read_parked(made._connection, NAME) if each.place == min(REFUSED)]
            assert made.destinations.ask_replay(NAME, rows) == 1
            self.images["wal"] = {f.name: f.read_bytes() for f in self.folder.glob("outbox.db*") if "shm" not in f.name}
        self.images["db"] = {"outbox.db": path.read_bytes()}
        raw = apsw.Connection(str(path))
        pages = {n for table in ("destination", "parked", "parked_digest") for n in pages_of(raw, table)}
        self.own = [at for page in sorted(pages) for at in used(self.images["db"]["outbox.db"], page)]
        raw.close()

    def run(self, flips: int, *, keep_going: bool = False, aimed: float = AIMED) -> None:
        """Flip so many bits; `aimed`: the part of those in the database that hits the destinations' own pages."""
        for _ in range(flips):
            kind = "wal" if self.dice.random() < 0.2 and aimed < 1 else "db"
            size = len(self.images[kind]["outbox.db-wal" if kind == "wal" else "outbox.db"])
            is_aimed = kind == "db" and self.dice.random() < aimed
            at = self.dice.choice(self.own) if is_aimed else self.dice.randrange(size)
            try:
                self.flip(kind, at, self.dice.randrange(8))
            except Violation as violation:
                if not keep_going:
                    raise
                self.counts["violations"] += 1
                print(violation, flush=True)

    def flip(self, kind: str, at: int, bit: int) -> None:
        """Flip it, and see what comes of it. Raises Violation."""
        try:
            self.counts["flips"] += 1
            self._lay(kind, at, bit)
            self._carry(kind)
        except Violation as violation:
            raise Violation(f"{kind}:{at}:{bit}: {violation}") from violation
        except Exception as error:
            raise Violation(f"{kind}:{at}:{bit}: {type(error).__name__}: {error}") from error

    def _lay(self, kind: str, at: int, bit: int) -> None:
        for file in self.path.parent.iterdir():
            file.unlink()
        for name, data in self.images[kind].items():
            (self.path.parent / name).write_bytes(data)
        name = "outbox.db-wal" if kind == "wal" else "outbox.db"
        with (self.path.parent / name).open("r+b") as file:
            file.seek(at)
            file.write(bytes([self.images[kind][name][at] ^ 1 << bit]))

    def _carry(self, kind: str) -> None:
        system = System()
        try:
            with closing(open_outbox(self.path)) as made:
                made.verify_heads()
                for (
                    run,
                    stream,
                ) in self.runs.items():  # as node.destinations.site does at a start, for one that begins at the end
                    if stream not in made.heads:
                        raise LogBroken(
                            f"no stream {stream}"
                        )  # of the WAL nothing is left; the node would make it anew
                    # what a cut WAL forgot had never begun, which is no jump
                    with suppress(CursorLost):
                        made.destinations.open(NAME, run, 0 if kind == "wal" else made.heads[stream].end)
                carrier, alarms = carry(self.path, made, system)
                raised = {alarm["code"] for alarm in alarms.standing()} - {STANDING}  # that stood before
                self._judge(kind, made, system, told=bool(raised or carrier.last_error or carrier.counts.lost))
        except ENDS as error:
            if isinstance(error, Violation):
                raise
            self.counts["ended or refused to start"] += 1
            self._compare(system)

    def _compare(self, system: System) -> None:
        for each in system.got:
            if self.bodies.get((each.stream, each.place)) != each.body:
                raise Violation(f"{each.stream} {each.place}: something else was delivered")

    def _judge(self, kind: str, made: Outbox, system: System, *, told: bool) -> None:
        self._compare(system)
        there = self.before | {(each.stream, each.place) for each in system.got}
        named, places = set(), {}
        for each in (row for row in read_parked(made._connection, NAME) if not row.is_changed):
            stream = self.runs.get(each.run, "")
            named |= {(stream, place) for place in range(each.place, min(each.last, 1000) + 1)}
        for run, stream in self.runs.items():
            try:
                rows = made._connection.execute(
                    "SELECT place FROM destination WHERE name = ? AND run = ?", (NAME, run)
                ).fetchall()
            except apsw.Error:
                told, rows = True, []
            places[stream] = rows[0][0] if rows and type(rows[0][0]) is int else 0
        passed = {key for key in self.bodies if key[1] < places[key[0]]}
        self._count(kind, passed - there - named, self.bodies.keys() - there - named, told=told)

    def _count(self, kind: str, unnamed: set[tuple[str, int]], missing: set[tuple[str, int]], *, told: bool) -> None:
        if unnamed and not told:
            raise Violation(f"passed, not there and not named: {sorted(unnamed)}")
        if missing and not told and kind == "db":
            raise Violation(f"did not come, and nobody was told: {sorted(missing)}")
        self.counts["named by an alarm alone"] += bool(unnamed)
        self.counts["wal cut"] += bool(missing and not told)
        self.counts[f"{kind} told" if told else f"{kind} without effect"] += 1


def open_outbox(path: Path) -> Outbox:
    """As the node opens it."""
    return Outbox(path, signer=LOG_SIGNER, random=Random(1).randbytes)


def pages_of(raw: apsw.Connection, table: str) -> list[int]:
    """The root page of a small table or index: it has no other."""
    return [
        row[0]
        for row in raw.execute("SELECT rootpage FROM sqlite_schema WHERE name = ? OR tbl_name = ?", (table, table))
    ]


def used(image: bytes, page: int) -> list[int]:
    """The bytes of a page that are no empty space."""
    first = (page - 1) * 4096
    return [at for at in range(first, first + 4096) if image[at] or at < first + 16]


def main() -> int:
    """Run the campaign; 1 where a flip broke a promise."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--flips", type=int, default=20_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only", default="")
    options.add_argument("--keep-going", action="store_true")
    args = options.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))  # each flip would say so
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        campaign = Campaign(folder, args.seed)
        if args.only:
            kind, at, bit = args.only.split(":")
            campaign.flip(kind, int(at), int(bit))
        else:
            campaign.run(args.flips, keep_going=args.keep_going)
    except Violation as violation:
        print(f"VIOLATION {violation}\nseed {args.seed}")
        return 1
    finally:
        shutil.rmtree(folder)
    print(", ".join(f"{what} {count}" for what, count in sorted(campaign.counts.items())))
    return 1 if campaign.counts["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
