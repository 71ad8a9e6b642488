"""A disk that fails at its k-th call, for every k, once or from then on: outbox and ledger end or refuse, and nothing answered is lost."""

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest
from peewee import PeeweeException

from gateway.errors import LedgerLost
from sync.errors import CommitUnknown, LogBroken
from tests import power_ledger, power_outbox
from tests.power_lives import Rows, Told, files_in, lay, look, short_lives
from tests.sim_disk import ALL, STORING, Disk, disk

STARTING = (CommitUnknown, LogBroken, LedgerLost, apsw.Error, PeeweeException)  # there is nobody yet to be answered
# the repeat comes before a start: one that cannot read a page goes on without the memory of what came on it (Outbox._remember)
CALLS = (
    "boot", "group", "mixed", "one", "repeat", "receipt", "admitted", "large", "trim", "restart", "group", "probe", "killed", "mixed", "stream", "group",
    "deliver", "deliver", "deliver", "group", "deliver", "replay", "replay",
)  # fmt: skip
GROUPS = 9
STARTED_EACH = 25  # of so many faults one is followed by a whole start, all by a look at every row


@dataclass
class Run:
    """What was stored at each answer; how it ended, in a start or not; whether something was refused; the disk's calls, and which were a start's."""

    answers: list[Rows]
    ended: BaseException | None
    starting: bool
    refused: bool
    calls: list[tuple[str, str]]
    started: set[int]
    crashed: Path
    closed: Path
    took: dict[int, int]


def outbox_run(disk: Disk, folder: Path) -> Run:
    """A fixed outbox life, to its end or the first fault that it says something of."""
    answers, ended, life, starting, started = [look(folder / "outbox.db")], None, None, True, set()
    try:
        life = power_outbox.OutboxLife(disk, folder, "faults")
        answers = life.answers
        started.update(range(1, len(disk.calls) + 1))
        for what in CALLS:
            starting, before = what in {"restart", "killed"}, len(disk.calls)
            life.call(getattr(life, f"_{what}"))
            if starting:
                started.update(range(before + 1, len(disk.calls) + 1))
            if life.life.counts.get("refused"):
                break
    except Exception as error:
        ended = error
    calls, crashed, closed = disk.calls, folder.parent / "crashed", folder
    lay(files_in(folder), crashed)
    disk.arm()
    disk.tape = None
    if life is not None:
        with suppress(apsw.Error):
            life.made.close()
    refused = life is not None and "refused" in life.life.counts
    return Run(
        answers, ended, starting, refused, calls, started, crashed, closed, life.took if life is not None else {}
    )


def ledger_run(disk: Disk, folder: Path) -> Run:
    """A fixed ledger life, to its end or the first fault that it says something of."""
    answers, ended, life = [look(folder / "ledger.sqlite")], None, None
    try:
        life = power_ledger.LedgerLife(disk, folder, "faults")
        answers = life.answers
        life.run(GROUPS)
    except Exception as error:
        ended = error
    calls, crashed, closed = disk.calls, folder.parent / "crashed", folder
    lay(files_in(folder), crashed)
    disk.arm()
    disk.tape = None
    starting = life is None or life.ledger.connection is None
    refused = life is not None and "refused" in life.life.counts
    return Run(answers, ended, starting, refused, calls, set(), crashed, closed, {})


def must_be_noticed(reference: Run, at: int, name: str, fault: str) -> bool:
    """Whether nobody may be answered after this one failed: what a COMMIT stands on, and at the node a checkpoint of the WAL as well.

    No checkpoint for want of room is waited for, and none by the ledger at all: SQLite does those by itself, and comes again.
    """
    calls, call = reference.calls, reference.calls[at - 1]
    before = [each for each in calls[: at - 1] if each[0] in STORING]
    if name == "outbox.db" and "full" not in fault and call[0] in STORING and at not in reference.started:
        return True
    return call == ("write", "wal") or (call == ("sync", "wal") and before[-1] == ("write", "wal"))


def check(run: Run, reference: Run, name: str, place: str) -> None:
    """What is there, after a crash and after an orderly end, is what was answered, or the one call more that was under way."""
    done = len(run.answers)
    assert run.answers == reference.answers[:done], place
    may = [run.answers[-1]] if run.refused else [run.answers[-1], *reference.answers[done : done + 1]]
    for left in (run.crashed, run.closed):
        assert look(left / name) in may, f"{place}: {left.name}"


FAULTS = {"once": {"once": True}, "for ever": {}, "full once": {"once": True, "full": True}, "full": {"full": True}}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["outbox.db", "ledger.sqlite"])
def test_whichever_call_of_the_disk_fails_nobody_is_answered_falsely_and_all_that_was_answered_is_there(
    in_memory, name, fault
):
    room, run = (power_outbox, outbox_run) if name == "outbox.db" else (power_ledger, ledger_run)
    options, kinds = FAULTS[fault], ("write",) if "full" in fault else ALL
    live, noticed, refused = in_memory / "live", 0, 0
    with ExitStack() as stack:
        stack.enter_context(short_lives())
        failing = stack.enter_context(disk("failing"))
        lay({}, live)
        room.first_start(live)
        begin = files_in(live)
        failing.arm(kinds=kinds)
        reference = run(failing, live)
        assert reference.ended is None
        for at in range(1, len(reference.calls) + 1):
            place = f"{fault}, call {at} {reference.calls[at - 1]}"
            lay(begin, live)
            failing.arm(at, kinds=kinds, **options)
            found = run(failing, live)
            assert found.calls[: at - 1] == reference.calls[: at - 1], "the life is another one"
            check(found, reference, name, place)
            ends = STARTING if found.starting else (CommitUnknown, LedgerLost)
            assert found.ended is None or isinstance(found.ended, ends), f"{place}: {found.ended!r}"
            if must_be_noticed(reference, at, name, fault):
                assert found.ended is not None or found.refused, f"{place}: nobody noticed"
            noticed, refused = noticed + (found.ended is not None), refused + found.refused
            if at % STARTED_EACH == 0:
                rows = look(found.crashed / name)
                room.start(found.crashed, Told(rows, rows, ((), found.took) if name == "outbox.db" else None))
    assert noticed + refused > 0.4 * len(reference.calls), "there were enough of them to mean something"
    assert bool(refused) == ("full" in fault)
