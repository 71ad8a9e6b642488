"""Power cuts without a plug: lives of the real outbox and ledger on a recording disk, and a start in every state a cut could leave.

    python tests/sim_power.py --states 1000000 [--seed N]
    python tests/sim_power.py --replay outbox:SEED:LIFE:CUT:CHOICE

Each state must hold exactly what had been answered before the cut, or that and the whole of the one call under way, and it must verify.
The disk keeps any part of what was not synced, in any order, torn at sectors. SIGKILL and real processes are the matter of sim_kill.py and sim_kill_devices.py.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import apsw

sys.path.insert(0, str(Path(__file__).parents[1]))

from sync.errors import SyncError
from sync.key_ring import KeyRing
from sync.keys import Verifier
from sync.outbox_heads import read_heads, verify_head
from tests import power_ledger, power_outbox
from tests.power_lives import QUOTA_PAGES, Life, Told, abandon, everything, lay, short_lives, watched
from tests.power_states import Files, State, state, states
from tests.sim_disk import Disk, disk
from tests.sim_realm import LOG_SIGNER

CALLS = 40  # of one life: a dozen checkpoints of the WAL, a start or two, a hundred records
GROUPS = 24  # of a ledger's life, of one to three calls each
LIVES = 2  # of one disk, each begun in a state that a cut left of the one before: files stay small
THROWN = 3  # states thrown by dice after each change, beside the regular ones
VERIFIED_EACH = 4  # of so many states one has its heads verified as a start does: all hold rows whose heads were
STARTED_EACH = 150  # of so many states one gets a whole start, with migrations, answers to those who ask again, and integrity_check
QUOTA_BYTES = QUOTA_PAGES * 4096  # every third outbox has it, to be refused
SHARED_MEMORY = Path("/dev/shm")


class Lost(Exception):
    """A state in which something answered is not there, or something is there that never was."""


class Remembering(Verifier):
    """A verifier that checks each signature once: most states bear the same."""

    __slots__ = ("known",)

    def __init__(self, name: str, public: bytes) -> None:
        super().__init__(name, public)
        self.known: set[tuple[bytes, bytes]] = set()

    def verify(self, data: bytes, signature: bytes) -> None:
        if (data, signature) not in self.known:
            super().verify(data, signature)
            self.known.add((data, signature))


SIGNED = Remembering(LOG_SIGNER.name, LOG_SIGNER.public)


class OneKey(KeyRing):
    """The key of these lives, with the verifier that remembers."""

    def verifier(self, note: bytes) -> Verifier:
        return SIGNED


RING = OneKey(LOG_SIGNER)


@dataclass
class Bench:
    """A folder in which states are laid out and looked at."""

    folder: Path
    counts: Counter[str] = field(default_factory=Counter)

    def check(self, life: Life, found: State) -> None:
        """Raise Lost unless a start in this state finds what it must."""
        self.counts["states"] += 1
        number = self.counts["states"]
        try:
            self._look(life.name, found, verify=number % VERIFIED_EACH == 0)
            if number % STARTED_EACH == 0:
                self.counts["started"] += 1
                start(life.name, self.folder, found.told)
        except (AssertionError, apsw.Error, SyncError, Lost) as error:
            raise Lost(f"cut {found.cut}, choice {found.choice}: {type(error).__name__} {error}"[:300]) from error

    def _look(self, name: str, found: State, *, verify: bool) -> None:
        overwrite(self.folder, found.files)
        connection = apsw.Connection(str(self.folder / name), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            abandon(connection)
            # recovery reads the WAL as it does for anybody, but keeps its index in memory: no file of it is left behind
            connection.execute("PRAGMA locking_mode = exclusive")
            rows = everything(connection, name)
            if rows not in (found.told.answered, found.told.under_way):
                raise Lost(
                    f"{len(rows)} rows, answered {len(found.told.answered)}, under way {len(found.told.under_way)}"
                )
            if verify and name == "outbox.db":
                self.counts["verified"] += 1
                for head in read_heads(connection, LOG_SIGNER.name):
                    verify_head(connection, head, RING)
        finally:
            connection.close()


def overwrite(folder: Path, files: Files) -> None:
    """Make the folder hold these files; in place, which is faster than anew."""
    for file in folder.iterdir():
        if file.name not in files:
            file.unlink()
    for name, data in files.items():
        descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT)
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
        os.close(descriptor)


def start(name: str, folder: Path, told: Told) -> None:
    """A whole start of the outbox or the ledger."""
    (power_outbox if name == "outbox.db" else power_ledger).start(folder, told)


@dataclass
class Campaign:
    """Disk after disk until so many states were looked at, in at least `lives_min` lives of at most `states_each` states (0: all).

    `lies`: the disk's syncs do nothing, so that something must be found.
    """

    folder: Path
    seed: int
    states_max: int
    thrown: int = THROWN
    kinds: Sequence[str] = ("outbox", "ledger")
    lies: bool = False
    lives_min: int = 0
    states_each: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        """Raises Lost, with what replays it."""
        bench = Bench(self.folder / "state", self.counts)
        bench.folder.mkdir()
        with ExitStack() as stack:
            stack.enter_context(short_lives())
            recorder = stack.enter_context(disk("power"))
            recorder.lies = self.lies
            stack.enter_context(watched(recorder))
            for number in range(self.states_max):
                kind = self.kinds[number % len(self.kinds)]
                for n, life in enumerate(lives(kind, f"{self.seed}-{number}", self.folder / "live", recorder)):
                    self._cut(bench, life, f"{kind}:{self.seed}-{number}:{n}")
                    if self.counts["states"] >= self.states_max and self.counts["lives"] >= self.lives_min:
                        return

    def _cut(self, bench: Bench, life: Life, named: str) -> None:
        self.counts["lives"] += 1
        self.counts.update(life.counts)
        done = Counter((op.what, op.name == life.name) for op in life.tape)
        self.counts.update(
            {"checkpoints": done["sync", True], "cut back": done["truncate", False], "deleted": done["delete", False]}
        )
        found_here = states(life.tape, life.files, seed=named, count=self.thrown)
        for found in islice(found_here, self.states_each or None):
            try:
                bench.check(life, found)
            except Lost as error:
                raise Lost(f"--replay {named}:{found.cut}:{found.choice}  {error}") from error


def lives(kind: str, seed: str, folder: Path, recorder: Disk) -> Iterator[Life]:
    """The lives of one disk: after the first, each begins in a state that a power cut left of the one before."""
    dice = random.Random(f"disk {kind} {seed}")
    folder.mkdir(exist_ok=True)
    lay({}, folder)
    (power_outbox if kind == "outbox" else power_ledger).first_start(folder)
    for n in range(LIVES):
        if kind == "outbox":
            quota = QUOTA_BYTES if dice.random() < 1 / 3 else 0
            life = power_outbox.OutboxLife(recorder, folder, f"{seed}-{n}", quota_bytes=quota).run(CALLS)
        else:
            life = power_ledger.LedgerLife(recorder, folder, f"{seed}-{n}").run(GROUPS)
        yield life
        cut = dice.randrange(len(life.tape) // 2, len(life.tape))
        choices = [
            found.choice for found in states(life.tape[:cut], life.files, seed=seed, count=1) if found.cut == cut
        ]
        lay(state(life.tape, life.files, cut, dice.choice(choices or [""])).files, folder)


def replay(text: str, folder: Path, *, lies: bool = False) -> None:
    """Live a life again and look at one state. Raises Lost; the state's files stay in the folder."""
    kind, seed, n, cut, choice = text.split(":")
    with short_lives(), disk("power") as recorder, watched(recorder):
        recorder.lies = lies
        life = next(life for at, life in enumerate(lives(kind, seed, folder / "live", recorder)) if at == int(n))
        found = state(life.tape, life.files, int(cut), choice)
        lay(found.files, folder / "state")
        Bench(folder / "state").check(life, found)
        # what only a whole start finds is found again, too
        start(life.name, folder / "state", found.told)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--states", type=int, default=30_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--replay", metavar="KIND:SEED:LIFE:CUT:CHOICE", help="one state again; its files are kept")
    options = parser.parse_args()
    place = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    if options.replay:
        folder = Path(tempfile.mkdtemp(dir=place))
        print(f"files in {folder}/state")
        replay(options.replay, folder)
        return
    with tempfile.TemporaryDirectory(dir=place) as folder:
        campaign, began = Campaign(Path(folder), options.seed, options.states), time.process_time()
        try:
            campaign.run()
        except Lost as error:
            sys.exit(f"FAILED after {campaign.counts['states']} states: {error}")
        print(summary(campaign.counts, options.seed, time.process_time() - began))


def summary(counts: Counter[str], seed: int, seconds: float) -> str:
    """One line."""
    said: dict[str, Any] = {name: counts[name] for name in sorted(counts) if name not in {"states", "lives"}}
    rest = ", ".join(f"{name} {n}" for name, n in said.items())
    rate = counts["states"] / max(seconds, 0.001) * 60
    return f"{counts['states']} power cuts in {counts['lives']} lives: nothing answered was lost ({rate:.0f} a minute of one core; {rest}; seed {seed})"


if __name__ == "__main__":
    main()
