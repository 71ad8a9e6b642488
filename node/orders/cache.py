"""The orders that instruments may ask for: a small database of its own, made of what the outbox holds, asked without a link.

It can be lost: it is then made again of the messages whose bodies are still here. So its commits need not wait for the disk; a power cut leaves
an earlier state, with the positions of that state.
"""

import json
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import apsw
import structlog

from hl7.devices.astm_orders import CONTAINERS_MAX, KEYS_MAX, TESTS_MAX, Order

NAME = "orders.db"
ORDERS_MAX = 20_000  # of all samples: a week of a laboratory with 2,500 samples a day, some 10 MB
DAYS_MAX = (
    7  # since the last message about a sample came: it is measured on its day; what waits longer was measured elsewhere
)
ANSWERS_MAX = 50  # in one answer: a rack
DAY_US = 86_400_000_000
DICE_BITS = 32  # of where an opening's rows begin: a power cut takes back what the file knew of the one before, and may stop the clock too
VERSION = 1  # of the file
STEP_US = 60_000_000  # of the clock: beyond what a time server lets it drift, and nothing beside seven days
PERSON = ("patient", "family", "given", "birth", "sex")
ONCE = (
    "placer",
    "specimen",
    "collected",
    "priority",
)  # of a sample: said with one order, often not with the next

TABLES = (
    "CREATE TABLE IF NOT EXISTS place (stream TEXT PRIMARY KEY, next INTEGER NOT NULL) WITHOUT ROWID",
    (
        "CREATE TABLE IF NOT EXISTS wanted"  # AUTOINCREMENT: sqlite_sequence keeps the last row, also of those that went
        " (id INTEGER PRIMARY KEY AUTOINCREMENT, sample TEXT NOT NULL UNIQUE, patient TEXT NOT NULL, at_us INTEGER NOT NULL, value TEXT NOT NULL)"
    ),
    "CREATE INDEX IF NOT EXISTS wanted_by_age ON wanted (at_us)",
    "CREATE TABLE IF NOT EXISTS name (name TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (name, id)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS name_by_id ON name (id)",
    "CREATE TABLE IF NOT EXISTS given (feed TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (feed, id)) WITHOUT ROWID",
)

log = structlog.get_logger()


class OrderCache:
    """Used from several threads, one at a time. Where its file turns out to be damaged it begins anew; whoever saw that gets the error.

    `is_behind`: messages are stored whose orders it may not know yet, so what it says of any sample is not the last word. `lives`: how often it began.

    An order's row is never given to another one, be the file lost or set back by a power cut: the outbox keeps rows of work that was refused. So each
    opening begins its rows behind all that the file knows of, not before the time in microseconds, and a throw of `dice` (a number of so many
    bits) further on. All of them are below 2**53.
    """

    def __init__(
        self, folder: Path, now_us: Callable[[], int], monotonic: Callable[[], float], dice: Callable[[int], int] = secrets.randbits
    ) -> None:  # fmt: skip
        self._path, self._now_us, self._monotonic = folder / NAME, now_us, monotonic
        self._began_us = self._beginning_us()  # by the clock of now
        self._lock = threading.Lock()
        self.is_behind, self.lives = True, 1
        self._damage: apsw.Error | None = None  # of a file that could not be begun anew yet
        self._connection = self._open()
        self._first_row = self._next_row = _last_row(self._connection, now_us()) + 1 + dice(DICE_BITS)
        self.known = self._count()  # samples with orders

    def _open(self) -> apsw.Connection:
        try:
            return _connect(self._path, self._now_us())
        except apsw.Error as error:
            return self._anew(error)

    def _anew(self, error: Exception) -> apsw.Connection:
        log.warning("orders.begun_anew", error=type(error).__name__)
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                self._path.with_name(NAME + suffix).unlink()
        return _connect(self._path, self._now_us())

    @contextmanager
    def _using(self) -> Iterator[None]:
        """Have the file for oneself. What is damaged stays so: then it is made again of what the outbox holds."""
        with self._lock:
            if self._damage is not None:  # there was no room to begin anew when it was seen
                self._begin_anew(self._damage)
            try:
                yield
            except (apsw.CorruptError, apsw.NotADBError) as error:
                self.is_behind, self.lives, self.known, self._damage = True, self.lives + 1, 0, error
                self._begin_anew(error)
                raise

    def _begin_anew(self, error: apsw.Error) -> None:
        self._connection.close()
        self._connection = self._anew(error)
        self._damage = None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def heed(self, life: int, *, is_behind: bool) -> None:
        """Whoever reads the streams says whether all of them were read, in the life that it read them for."""
        with self._lock:
            if life == self.lives:
                self.is_behind = is_behind

    def next_place(self, stream: str) -> int:
        """From where on a stream was not read yet."""
        with self._using():
            found: Any = self._connection.execute("SELECT next FROM place WHERE stream = ?", (stream,)).get
            return int(found or 0)

    def keep(self, stream: str, next_place: int, orders: Iterable[tuple[int, Order]], *, now_us: int) -> None:
        """Take what a stream brought up to a place: orders and when each came. What is old or too much goes. All or nothing."""
        with self._using(), self._connection:
            run = self._connection.execute
            run("INSERT OR REPLACE INTO place VALUES (?, ?)", (stream, next_place))
            self._follow_clock()
            for at_us, order in orders:
                self._put(at_us, order)
            oldest: Any = run("SELECT at_us FROM wanted ORDER BY at_us DESC LIMIT 1 OFFSET ?", (ORDERS_MAX,)).get
            self._forget("at_us <= ?", max(now_us - DAYS_MAX * DAY_US, oldest or 0))
            self.known = self._count()

    def find(self, samples: Sequence[str], patient: str = "") -> list[Order]:
        """The orders of the sample with this number; where none has it, those of this patient. Newest first.

        Of several numbers (rack, place and sample) those that are a sample's or a container's must be of one sample: which of them is the tube is not known.
        """
        found = [rows for number in samples if (rows := self.find_rows(number, is_tube=len(samples) > 1))]
        if found:
            return [order for _, order in found[0]] if all(rows == found[0] for rows in found) else []
        with self._using():
            theirs = (order for _, order in self._named(patient) if order.patient == patient)
            return list(islice(theirs, ANSWERS_MAX)) if patient else []

    def find_rows(self, number: str, *, is_tube: bool = False) -> list[tuple[int, Order]]:
        """The orders of the sample with this number; where none has it, and not `is_tube`, those that have it as an order's number. Never a patient's.

        Newest first, each with its row: an order that changes gets another one, a later row is a greater number.
        """
        with self._using():
            found = [(row, order) for row, order in self._named(number) if number in order.keys]
        tubes = [each for each in found if number in {each[1].sample, *each[1].containers}]
        return (tubes or ([] if is_tube else found))[:ANSWERS_MAX]

    def order(self, row: int) -> Order | None:
        """The order that has this row; None where it is not any more what it was when it got it."""
        with self._using():
            value: Any = self._connection.execute(
                "SELECT value FROM wanted WHERE id = ? AND at_us > ?", (row, self._oldest_us())
            ).get
            return None if value is None else _order(value)

    def waiting(self, feed: str) -> list[tuple[int, Order]]:
        """Orders that were not given to this feed's instrument yet, oldest first."""
        with self._using():
            rows: Any = self._connection.execute(
                "SELECT id, value FROM wanted WHERE at_us > ? AND id NOT IN (SELECT id FROM given WHERE feed = ?) ORDER BY id LIMIT ?",
                (self._oldest_us(), feed, ANSWERS_MAX),
            )
            return [(row, _order(value)) for row, value in rows]

    def given(self, feed: str, rows: Sequence[int]) -> None:
        """The instrument has these."""
        with self._using(), self._connection:
            for row in rows:
                self._connection.execute("INSERT OR IGNORE INTO given VALUES (?, ?)", (feed, row))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _named(self, name: str) -> Iterator[tuple[int, Order]]:
        rows: Any = self._connection.execute(
            "SELECT id, value FROM wanted JOIN name USING (id) WHERE name = ? AND at_us > ? ORDER BY at_us DESC",
            (name, self._oldest_us()),
        )
        return ((row, _order(value)) for row, value in rows)

    def _oldest_us(self) -> int:
        """What came at this time or before is too old, also where no message came since that would have had it forgotten."""
        self._follow_clock()
        return self._now_us() - DAYS_MAX * DAY_US

    def _beginning_us(self) -> int:
        return self._now_us() - int(self._monotonic() * 1e6)

    def _follow_clock(self) -> None:
        """Where the clock was put right, so is what came since the start: a box without a clock of its own begins in the past, and its orders are new."""
        step_us = self._beginning_us() - self._began_us
        if abs(step_us) > STEP_US:
            self._began_us += step_us
            self._connection.execute("UPDATE wanted SET at_us = at_us + ? WHERE id >= ?", (step_us, self._first_row))
            log.info("orders.clock_stepped", seconds=step_us // 1_000_000)

    def _count(self) -> int:
        found: Any = self._connection.execute("SELECT count(*) FROM wanted").get
        return int(found)

    def _put(self, at_us: int, order: Order) -> None:
        """An order's tests are added to those of its sample, or taken from them. One that has no test left goes.

        A number that another patient has now is another tube's: what was asked of the first one is asked of nobody.
        """
        rows: Any = list(self._connection.execute("SELECT id, value FROM wanted WHERE sample = ?", (order.sample,)))
        known = {row: _order(value) for row, value in rows}
        if order.is_cancelled:
            self._take_away(at_us, order, known)
            return
        for row, before in known.items():
            self._forget("id = ?", row)
            if _is_of_another(before, order):
                log.info("orders.sample_of_another")
            else:
                order = _with(before, order)
        self._insert(at_us, order)

    def _take_away(self, at_us: int, order: Order, known: dict[int, Order]) -> None:
        """Take the tests of an order that was called off from its sample; where it names none that is known, from wherever it was placed."""
        named = known or {row: each for key in order.keys for row, each in self._named(key) if key in each.keys}
        for row, before in named.items():
            if not _is_of_another(before, order):
                self._forget("id = ?", row)
                if (left := _without(before, order)).tests:
                    self._insert(at_us, left)

    def _insert(self, at_us: int, order: Order) -> None:
        row, self._next_row = self._next_row, self._next_row + 1  # also where the transaction fails
        run, value = self._connection.execute, json.dumps(asdict(order), ensure_ascii=False)
        run("INSERT INTO wanted VALUES (?, ?, ?, ?, ?)", (row, order.sample, order.patient, at_us, value))
        for name in filter(None, (*order.keys, order.patient)):
            run("INSERT OR IGNORE INTO name VALUES (?, ?)", (name, row))

    def _forget(self, condition: str, value: int) -> None:
        run = self._connection.execute
        for table in ("name", "given"):
            run(f"DELETE FROM {table} WHERE id IN (SELECT id FROM wanted WHERE {condition})", (value,))  # noqa: S608  # ours
        run(f"DELETE FROM wanted WHERE {condition}", (value,))  # noqa: S608  # ours


def _with(before: Order, order: Order) -> Order:
    """A sample's orders with one more: its tests and numbers beside theirs, and what it does not say as they say it."""
    placed = dict((*before.placed, *order.placed))
    unsaid = PERSON if not order.patient else ()
    kept = {each: getattr(before, each) for each in (*unsaid, *(each for each in ONCE if not getattr(order, each)))}
    keys = tuple(dict.fromkeys((*order.keys, *before.keys)))[:KEYS_MAX]
    containers = tuple(dict.fromkeys((*order.containers, *before.containers)))[:CONTAINERS_MAX]
    return replace(
        order,
        keys=keys,
        containers=containers,
        tests=tuple(placed)[:TESTS_MAX],
        placers=tuple(placed.values())[:TESTS_MAX],
        **kept,
    )


def _without(before: Order, order: Order) -> Order:
    """A sample's orders without the tests that were called off; where none are named, without those under its numbers, or without any."""
    gone = set(order.tests) or {test for test, placer in before.placed if placer in order.keys} or set(before.tests)
    left = [(test, placer) for test, placer in before.placed if test not in gone]
    return replace(before, tests=tuple(test for test, _ in left), placers=tuple(placer for _, placer in left))


def _is_of_another(before: Order, order: Order) -> bool:
    return bool(order.patient) and before.patient not in {"", order.patient}


def _connect(path: Path, now_us: int) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", 1)
    if connection.pragma("user_version") != VERSION:
        with connection:
            _bring_forward(connection, now_us)
    if connection.pragma("quick_check") != "ok":
        connection.close()
        raise apsw.CorruptError("quick_check")
    return connection


def _bring_forward(connection: apsw.Connection, now_us: int) -> None:
    """Make the tables. A file of before keeps its orders and what was given, under new rows: an old one may have meant several orders."""
    run = connection.execute
    is_former = run("SELECT 1 FROM sqlite_schema WHERE name = 'wanted'").get is not None
    if is_former:
        run("ALTER TABLE wanted RENAME TO former")
        run("DROP INDEX wanted_by_age")
    for table in TABLES:
        run(table)
    if is_former:
        run("INSERT INTO wanted SELECT id + ?, sample, patient, at_us, value FROM former", (now_us,))
        for table in ("name", "given"):
            run(f"UPDATE {table} SET id = id + ?", (now_us,))  # noqa: S608  # ours
        run("DROP TABLE former")
    connection.pragma("user_version", VERSION)


def _last_row(connection: apsw.Connection, now_us: int) -> int:
    last: Any = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'wanted'").get
    return max(last or 0, now_us)


def _order(value: str) -> Order:
    try:
        read = json.loads(value)
        only = read.pop("container", "")  # a file of before knew one
        order = Order(
            **{
                **read,
                "keys": tuple(read["keys"]),
                "tests": tuple(read["tests"]),
                "placers": tuple(read.get("placers", ())),
                "containers": tuple(read.get("containers", [only] if only else ())),
            }
        )
        if order.placers and len(order.placers) != len(order.tests):
            raise ValueError("placers")
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # a flipped bit that SQLite does not see
        raise apsw.CorruptError("a row that is no order") from error
    return order
