"""Lives of an outbox as a campaign: groups in turn, receipts of two gateways, trimming, further epochs, what is rolled back, full disks, kills, repairs of
damage, steps back to a release of before segments and forward again. After each step each record is found once, at its place, with its bytes.

    python tests/sim_outbox.py --lives 2000 [--first 0]     one line at the end; a violation names its life

The oracle is a list of bodies for each stream: a record of epoch e and seq n is the body at the place where e begins, and n.
"""

# the size of a tile must be another before anybody takes it over

import argparse
import collections
import shutil
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from random import Random
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))
import sync.log

if __name__ == "__main__":
    sync.log.TILE_LEAVES = 8  # so that a small outbox has full tiles

import apsw

from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.errors import LogBroken, NoRoom
from sync.log import root_at
from sync.outbox import Outbox
from sync.outbox_destinations_view import DestinationView
from sync.outbox_salvage import salvage
from sync.outbox_view import OutboxView
from sync.receipt import cosign
from sync.record import BodyState
from sync.store import damage
from tests.sim_realm import COSIGNER, LOG_SIGNER, NODE, TAG, draft

STREAMS = ("his", "lab", "adt")
LEDGERS = ("ledger-1", "ledger-2")
EPOCHS_MAX = 7  # of a stream in one life
STEPS = 60
FAR = 2**60  # a time after all others, in microseconds
STEP_BACK = "DROP TABLE segment; CREATE UNIQUE INDEX header_position ON header (log, seq); DELETE FROM schema_migration WHERE name LIKE '0007%'"
# of one row each; what the header's own place says is lost with it, or not
DAMAGE = {
    "no segment": "DELETE FROM segment",
    "wrong segments": "UPDATE segment SET shift = shift + 1",
    "another body": "UPDATE body SET body = x'00' WHERE id = ?1",
    "no header": "UPDATE header SET header = NULL WHERE id = ?1",
    "a row elsewhere": "UPDATE header SET id = (SELECT max(id) + 10 FROM header) WHERE id = ?1",
    "nothing": "SELECT 1",
}
LOSING = {"another body", "no header"}
WEIGHTS = {
    "append": 10, "receipt": 5, "trim": 4, "part": 2, "restart": 2, "kill": 1, "fail": 1, "repair": 1, "step_back": 1, "older_release": 1,
}  # fmt: skip


class Violation(Exception):
    """Something that must never be."""


class Life:
    """One outbox and what it must hold."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.dice, self.folder, self.count = Random(seed), folder, 0
        self.path = folder / "outbox.db"
        self.bodies: dict[str, list[bytes]] = {name: [] for name in STREAMS}
        self.gone: set[tuple[str, int]] = set()  # stream and place of what was trimmed or damaged
        self.trail: list[str] = []
        self.quota = self.dice.choice((0, 300_000))
        self.made = self._open()

    def run(self, steps: int) -> list[str]:
        """So many steps, each looked at. Gives what was done. Raises Violation."""
        try:
            for _ in range(steps):
                self.trail.append(self.dice.choices([*WEIGHTS], [*WEIGHTS.values()])[0])
                getattr(self, f"_{self.trail[-1]}")()
                self._check()
        except Exception as error:
            raise Violation(f"after {self.trail[-8:]}: {type(error).__name__}: {error}") from error
        finally:
            self.made.close()
        return self.trail

    def _open(self) -> Outbox:
        made = Outbox(self.path, signer=LOG_SIGNER, random=Random(1).randbytes, quota_bytes=self.quota)
        made.verify_heads()
        made.open_streams(dict.fromkeys(STREAMS, "routine"), TAG)
        return made

    # -- steps --------------------------------------------------------------------------------------------------------

    def _drafts(self, most: int) -> list:
        names = self.dice.sample(STREAMS, self.dice.choice((1, 1, 1, 2, 3)))
        octets = self.dice.choice((10, 200, 3000))
        first, self.count = self.count, self.count + self.dice.randrange(1, most)
        return [
            draft(n, stream=self.dice.choice(names), body=b"MSH|%d|" % n + bytes(octets))
            for n in range(first, self.count)
        ]

    def _append(self) -> None:
        drafts = self._drafts(self.dice.choice((2, 3, 30)))
        try:
            found = self.made.append(drafts)
        except NoRoom:
            self.trail[-1] = "full"
            return
        for each, stored in zip(drafts, found, strict=True):
            head, bodies = self.made.heads[each.stream], self.bodies[each.stream]
            bodies.append(each.body)
            self._same(stored[:3], (each.stream, head.origin.epoch, len(bodies) - 1 - head.start))

    def _fail(self) -> None:
        """Two streams at once, of which the second finds no room."""
        real, calls = self.made._insert_group, iter((False, True))

        def insert(row, group) -> None:
            real(row, group)
            if next(calls):
                raise apsw.FullError("full")

        drafts = [draft(0, stream=name, body=b"never") for name in STREAMS[:2]]
        with mock.patch.object(self.made, "_insert_group", insert):
            try:
                self.made.append(drafts)
            except NoRoom:
                return
        raise Violation("stored, and there was no room")

    def _receipt(self) -> None:
        head = self.dice.choice(self.made.logs(self.dice.choice(STREAMS)))
        if not head.frontier.size:
            return
        size = self.dice.choice((head.frontier.size, self.dice.randint(1, head.frontier.size)))
        said = Checkpoint(head.origin, size, root_at(head.table(self.made._connection), size))
        note = cosign(sign_checkpoint(said, LOG_SIGNER), time=1, signer=COSIGNER)
        self.made.keep_receipt(ledger=self.dice.choice(LEDGERS), origin=head.origin, size=size, receipt=note, at=1)

    def _trim(self) -> None:
        name = self.dice.choice(STREAMS)
        before = {head.origin: head.trimmed for head in self.made.logs(name)}
        self.made.trim(name, ledger=self.dice.choice(LEDGERS), received_before_us=FAR)
        for head in self.made.logs(name):
            self.gone |= {(name, head.start + seq) for seq in range(before[head.origin], head.trimmed)}

    def _part(self) -> None:
        """A further epoch; one in three is rolled back at its end."""
        name = self.dice.choice(STREAMS)
        newest, fails = self.made.heads[name], self.dice.random() < 1 / 3
        if len(self.made.logs(name)) >= EPOCHS_MAX:
            return
        place = self.dice.choice(
            (newest.end, self.dice.randint(0, newest.end), self.dice.randint(newest.start, newest.end))
        )
        own, epoch = (
            self.dice.choice((place, self.dice.randint(0, place))),
            newest.origin.epoch + self.dice.choice((1, 1, 7)),
        )
        opens = sync.outbox.open_epoch

        def open_epoch(*given, **more):
            heads = opens(*given, **more)
            if fails:
                raise LogBroken("as if")
            return heads

        with mock.patch("sync.outbox.open_epoch", open_epoch):
            try:
                self.made.open_epoch(name, epoch=epoch, tag="22222222", place=place, theirs=None, own=own)
            except LogBroken:
                if not fails:
                    raise

    def _restart(self) -> None:
        self.made.close()
        self.made = self._open()

    def _kill(self) -> None:
        """The files as they are now, the WAL with them."""
        left = {file: file.read_bytes() for file in self.folder.glob("outbox.db*") if "shm" not in file.name}
        self.made.close()
        for file in self.folder.glob("outbox.db*"):
            file.unlink()
        for file, data in left.items():
            file.write_bytes(data)
        self.made = self._open()

    def _repair(self) -> None:
        self.made.close()
        runs = {head.run: name for name, head in self.made.heads.items()}
        what = self.dice.choice([*DAMAGE])
        with closing(apsw.Connection(str(self.path))) as raw:
            rows = raw.execute("SELECT id, log, seq FROM header").fetchall()
            if rows:
                row, run, place = self.dice.choice(rows)
                raw.execute(DAMAGE[what], (row,) if "?1" in DAMAGE[what] else ())
                self.gone |= {(runs[run], place)} if what in LOSING else set()
        self.trail[-1] = f"repair of {what}"
        self._salvage()

    def _salvage(self) -> None:
        salvage(self.path, self.folder / "fresh.db", signer=LOG_SIGNER)
        for file in self.folder.glob("outbox.db*"):
            file.unlink()
        for file in self.folder.glob("fresh.db*"):
            file.rename(self.folder / file.name.replace("fresh", "outbox"))
        self.made = self._open()

    def _step_back(self) -> None:
        self._between(lambda raw: raw.execute(STEP_BACK))

    def _older_release(self) -> None:
        """A release of before segments stores some groups; whoever comes back from it has to repair."""
        known = self.made._connection.execute("SELECT run, first, shift FROM segment").fetchall()
        for _ in range(self.dice.randrange(4)):
            self._append()
        self.made.close()
        with closing(apsw.Connection(str(self.path))) as raw:
            raw.execute("DELETE FROM segment")
            raw.executemany("INSERT INTO segment VALUES (?, ?, ?)", known)
        self._salvage()

    def _between(self, change) -> None:
        self.made.close()
        with closing(apsw.Connection(str(self.path))) as raw:
            change(raw)
        self.made = self._open()

    # -- what must be so ----------------------------------------------------------------------------------------------

    def _check(self) -> None:
        cursors = self.made._connection.execute("SELECT ledger, log, size, octets FROM cursor").fetchall()
        said = {(ledger, log): (size, octets) for ledger, log, size, octets in cursors}
        for key, known in self.made._cursors._known.items():
            self._same(said.get(key), known)
        with closing(OutboxView(self.path, NODE)) as view, closing(DestinationView(self.path)) as places:
            for name, bodies in self.bodies.items():
                heads = self.made.logs(name)
                # an older window of which nothing was left stays empty where it began
                windows = [head for head in heads if head.frontier.size or head is heads[-1]]
                self._same([head.start for head in windows] + [len(bodies)], [0] + [head.end for head in windows])
                for head in heads:
                    self._check_log(name, head, head.table(self.made._connection))
                    self._check_log(name, head, view.table(head.log))
                run = places.run(name)
                self._same([place for place, _ in places.headers(run.id, 0, len(bodies))], list(range(len(bodies))))

    def _check_log(self, name: str, head, table) -> None:
        size = head.frontier.size
        records = list(table.records(0, size))
        self._same([record.seq for record in records], list(range(size)))
        for place, record in enumerate(records, head.start):
            is_whole = record.state is BodyState.PRESENT and damage(record) is None
            if is_whole and record.body != self.bodies[name][place]:
                raise Violation(f"{head.origin} {record.seq}: the bytes of another")
            if not is_whole and (name, place) not in self.gone:
                raise Violation(f"{head.origin} {record.seq}: {record.state.word}, and nobody trimmed it")
        first = self.dice.randint(0, size)
        count = self.dice.randint(0, size - first)
        self._same([seq for seq, _ in table.headers(first, count)], list(range(first, first + count)))
        self._same(table.leaves(first, count), b"".join(record.leaf for record in records[first : first + count]))
        self._same(table.frontier(size), head.frontier)

    @staticmethod
    def _same(found: object, wanted: object) -> None:
        if found != wanted:
            raise Violation(f"{found} where {wanted} is so")


def live(seed: int, steps: int = STEPS) -> list[str]:
    """One life, from nothing; what was done in it. Raises Violation."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        return Life(folder, seed).run(steps)
    except Violation as violation:
        raise Violation(f"life {seed} {violation}") from violation
    finally:
        shutil.rmtree(folder)


def main() -> int:
    """Run the campaign; 1 where a life broke a promise."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lives", type=int, default=2000)
    options.add_argument("--first", type=int, default=0)
    args, counts, broken = options.parse_args(), collections.Counter[str](), 0
    for seed in range(args.first, args.first + args.lives):
        try:
            counts.update(live(seed))
        except Violation as violation:
            broken += 1
            print(violation, flush=True)
    print(
        f"{args.lives} lives, {broken} broken:", ", ".join(f"{what} {count}" for what, count in sorted(counts.items()))
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
