"""The ledger's rows as the protocol's values, inside the writer's transaction. Nothing here begins, commits or answers."""

from collections.abc import Sequence
from typing import Any

import apsw

from gateway.errors import SwapLost
from gateway.ledger import ReleaseCall
from gateway.ledger_keys import KeyRows
from sync.agreement import Told
from sync.announced import Announced
from sync.held import HeldLog
from sync.keys import Verifier
from sync.log import Frontier, root_at
from sync.names import Origin
from sync.receiver import Admit, Admitted, Append, Fill, OpenLog, Refuse
from sync.record import BodyState
from sync.session import STREAMS_MAX
from sync.store import LogTable

EPOCHS_MAX = (
    1024  # of one stream: each came of a restored or copied node; more is a node that restores itself in a loop
)

# a log's head, as `_held_log` reads it
_HEAD = "node, stream, epoch, tag, size, peaks, note, coalesce((SELECT key_id FROM certificate WHERE id = log.certificate), x'')"

Row = tuple[Any, ...]


class Rows:
    """Typed reads and writes on the writer's connection. `now_us` is passed in with each write, UTC microseconds."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.keys = KeyRows(connection)

    # -- facts ------------------------------------------------------------------------------------

    def fact(self, name: str, fresh: bytes) -> bytes:
        """The value kept under this name; `fresh` where there is none yet, kept from now on."""
        self._connection.execute("INSERT OR IGNORE INTO fact (name, value) VALUES (?, ?)", (name, fresh))
        return bytes(self._one("SELECT value FROM fact WHERE name = ?", (name,))[0])

    # -- starts ----------------------------------------------------------------------------------------------------

    def admitted(self, node: str, asking: str) -> Admitted | None:
        """What is remembered of a node's starts; of the earlier ones only `asking`, if it is one. Empty: nobody asks for one."""
        rows = self._all("SELECT boot, fence, held FROM node WHERE name = ?", (node,))
        if not rows:
            return None
        boot, fence, held = rows[0]
        question = "SELECT boot FROM boot WHERE node = ? AND boot = ? AND boot <> ?"
        earlier = self._all(question, (node, asking, boot)) if asking else []
        return Admitted(boot=boot, fence=fence, earlier=frozenset(row[0] for row in earlier), held=bool(held))

    def admit(self, node: str, effect: Admit, certificate: int, now_us: int) -> None:
        """Make this start the last admitted one. The fence goes into every head row: no PUT of an older fence commits after this."""
        # `hold` is never taken back here: a release is a person's
        self._connection.execute(
            "INSERT INTO node (name, boot, fence, held, certificate, admitted_us) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE"
            " SET boot = excluded.boot, fence = excluded.fence, held = max(held, excluded.held), certificate = excluded.certificate,"
            " admitted_us = excluded.admitted_us",
            (node, effect.boot, effect.fence, int(effect.hold), certificate, now_us),
        )
        # those it supersedes are remembered too: a call of theirs that is still under way is late, not a copy
        for boot in (*effect.superseded, effect.boot):
            self._connection.execute(
                "INSERT OR IGNORE INTO boot (node, boot, admitted_us) VALUES (?, ?, ?)", (node, boot, now_us)
            )
        self._connection.execute("UPDATE log SET fence = ? WHERE node = ?", (effect.fence, node))

    # -- logs ------------------------------------------------------------------------------------------------------

    def heads(self, node: str) -> tuple[HeldLog, ...]:
        """The newest epoch of each of the node's streams."""
        rows = self._all(
            f"SELECT {_HEAD} FROM log WHERE node = ?"  # noqa: S608  # a constant
            " AND epoch = (SELECT max(epoch) FROM log AS l WHERE l.node = log.node AND l.stream = log.stream) ORDER BY stream",
            (node,),
        )
        return tuple(_held_log(row) for row in rows)

    def head(self, node: str, stream: str) -> tuple[int, HeldLog] | None:
        """Row and head of the newest epoch of one stream."""
        rows = self._all(
            f"SELECT id, {_HEAD} FROM log WHERE node = ? AND stream = ? ORDER BY epoch DESC LIMIT 1",  # noqa: S608  # a constant
            (node, stream),
        )
        return (rows[0][0], _held_log(rows[0][1:])) if rows else None

    def opening(self, log: int) -> bytes:
        """The statement that opened a log; empty for a stream's first."""
        return bytes(self._one("SELECT opening FROM log WHERE id = ?", (log,))[0])

    def find(self, origin: Origin) -> tuple[int, LogTable] | None:
        """Size and leaves of one log, of whatever epoch; None where it is not held."""
        rows = self._all(
            "SELECT id, size FROM log WHERE node = ? AND stream = ? AND epoch = ? AND tag = ?",
            (origin.node, origin.stream, origin.epoch, origin.tag),
        )
        return (rows[0][1], self.table(rows[0][0])) if rows else None

    def log_of(self, origin: Origin) -> tuple[int, HeldLog] | None:
        """Row and head of one log, of whatever epoch."""
        rows = self._all(
            f"SELECT id, {_HEAD} FROM log WHERE node = ? AND stream = ? AND epoch = ? AND tag = ?",  # noqa: S608  # a constant
            (origin.node, origin.stream, origin.epoch, origin.tag),
        )
        return (rows[0][0], _held_log(rows[0][1:])) if rows else None

    def epochs(self, node: str, stream: str) -> list[tuple[HeldLog, LogTable]]:
        """All logs of a stream, oldest first, with their leaves."""
        rows = self._all(
            f"SELECT id, {_HEAD} FROM log WHERE node = ? AND stream = ? ORDER BY epoch",  # noqa: S608  # a constant
            (node, stream),
        )
        return [(_held_log(row[1:]), self.table(row[0])) for row in rows]

    def root(self, node: str, stream: str, epoch: int, size: int) -> Told:
        """What the log of this epoch is at this size."""
        rows = self._all(
            "SELECT id, tag, size FROM log WHERE node = ? AND stream = ? AND epoch = ?", (node, stream, epoch)
        )
        if not rows:
            return Told("", 0, b"")
        log, tag, held = rows[0]
        return Told(tag, held, root_at(self.table(log), size) if size <= held else b"")

    def open_log(self, effect: OpenLog) -> bool:
        """Make an empty head row; False where there are as many streams, or epochs of this one, as are taken. What comes under a further epoch is held."""
        origin = effect.origin
        known = self._all(
            "SELECT lane FROM log WHERE node = ? AND stream = ? ORDER BY epoch DESC", (origin.node, origin.stream)
        )
        (streams,) = self._one("SELECT count(DISTINCT stream) FROM log WHERE node = ?", (origin.node,))
        if (not known and streams >= STREAMS_MAX) or len(known) >= EPOCHS_MAX:
            return False
        self._connection.execute(
            "INSERT INTO log (node, stream, epoch, tag, lane, fence, size, peaks, octets, note, receipt_at, opening)"
            " SELECT ?, ?, ?, ?, ?, fence, 0, x'', 0, x'', 0, ? FROM node WHERE name = ?",
            (
                origin.node,
                origin.stream,
                origin.epoch,
                origin.tag,
                effect.lane or known[0][0],
                effect.opening,
                origin.node,
            ),
        )
        if effect.opening:
            self.hold_node(origin.node)
        if effect.key is not None:
            self.keys.sign_from(origin.node, self._connection.last_insert_rowid(), effect.key)
        return True

    def announced(self, node: str, stream: str = "") -> tuple[Announced, ...]:
        """The heads that a node announced last, of one stream or of all."""
        rows = self._all(
            "SELECT node, stream, epoch, tag, size, root, note FROM announced WHERE node = ? AND (? = '' OR stream = ?)",
            (node, stream, stream),
        )
        return tuple(Announced(origin=Origin(*row[:4]), size=row[4], root=row[5], note=row[6]) for row in rows)

    def announce(self, head: Announced, now_us: int) -> None:
        """Keep an announced head in the place of the last one; nothing for a stream that is not held: their number is bounded."""
        origin = head.origin
        self._connection.execute(
            "INSERT OR REPLACE INTO announced (node, stream, epoch, tag, size, root, note, at_us) SELECT ?, ?, ?, ?, ?, ?, ?, ?"
            " WHERE EXISTS (SELECT 1 FROM log WHERE node = ? AND stream = ?)",
            (
                origin.node, origin.stream, origin.epoch, origin.tag, head.size, head.root, head.note, now_us, origin.node, origin.stream,
            ),
        )  # fmt: skip

    def release(self, call: ReleaseCall, now_us: int) -> int | Refuse:
        """Take a node's records out of being held, if nothing is there that the person had not seen; how many."""
        node = call.node
        if {held.origin for held in self.heads(node)} != set(call.logs):
            return Refuse(409, "changed", "the node has other logs than those that were signed for: look again")
        (newest,) = self._one("SELECT coalesce(max(signed_at), 0) FROM release WHERE node = ?", (node,))
        if call.at <= newest:
            return Refuse(409, "changed", "a later release was given already")
        (count,) = self._one(
            "SELECT coalesce(sum(end - first), 0) FROM hold JOIN log ON log.id = hold.log WHERE node = ?", (node,)
        )
        self._connection.execute("DELETE FROM hold WHERE log IN (SELECT id FROM log WHERE node = ?)", (node,))
        self._connection.execute("UPDATE node SET held = 0 WHERE name = ?", (node,))
        self._connection.execute(
            "INSERT INTO release (node, operator, statement, signed_at, at_us) VALUES (?, ?, ?, ?, ?)",
            (node, call.operator, call.statement, call.at, now_us),
        )
        self._connection.execute(
            "DELETE FROM alarm WHERE node = ? AND code IN ('GWY-10', 'GWY-12', 'GWY-17', 'GWY-18', 'GWY-19', 'GWY-23')",
            (node,),
        )
        return int(count)

    def append(
        self, log: int, effect: Append, *, fence: str, held: bool, receipt_at: int, key: Verifier | None = None
    ) -> None:  # fmt: skip
        """Swap the head row if it is still what was judged, and insert the records. `key`: the one that the row is known to be under. Raises SwapLost."""
        before, after = effect.before, effect.after
        octets = sum(len(record.body) for record in effect.records)
        self._connection.execute(
            "UPDATE log SET size = ?, peaks = ?, octets = octets + ?, note = ?, receipt_at = ?"
            " WHERE id = ? AND epoch = ? AND tag = ? AND size = ? AND peaks = ? AND fence = ?",
            (after.size, after.peaks, octets, effect.note, receipt_at, log, effect.origin.epoch, effect.origin.tag,
             before.size, before.peaks, fence),
        )  # fmt: skip
        if self._connection.changes() != 1:
            raise SwapLost(f"{effect.origin} is not at {before.size} any more")
        (largest,) = self._one("SELECT coalesce(max(id), 0) FROM header", ())
        LogTable(self._connection, log).append(largest + 1, before, effect.records)
        if effect.changes or key is None or key.public != effect.key.public:  # else the row says so already
            self.keys.sign_from(effect.origin.node, log, effect.key, effect.changes)
        if held:
            self._hold(log, before.size, after.size)

    def lacking(self, log: int, first: int, end: int) -> frozenset[int]:
        """The positions first..end-1 that are stored without what was damaged at the node. What was trimmed or erased lacks nothing."""
        rows = self._all(
            "SELECT seq FROM header WHERE log = ? AND seq >= ? AND seq < ? AND state IN (?, ?)",
            (log, first, end, int(BodyState.DAMAGED), int(BodyState.LEAF_ONLY)),
        )
        return frozenset(row[0] for row in rows)

    def fill(self, log: int, effect: Fill) -> None:
        """Give stored records the header and body that they lack."""
        for record in effect.records:
            (row,) = self._one("SELECT id FROM header WHERE log = ? AND seq = ?", (log, record.seq))
            self._connection.execute(
                "UPDATE header SET state = ?, header = ? WHERE id = ?", (int(BodyState.PRESENT), record.header, row)
            )
            self._connection.execute(
                "INSERT INTO body (id, salt, particulars, body) VALUES (?, ?, ?, ?)",
                (row, record.salt, record.particulars, record.body),
            )
        octets = sum(len(record.body) for record in effect.records)
        self._connection.execute("UPDATE log SET octets = octets + ? WHERE id = ?", (octets, log))

    def hold_node(self, node: str) -> None:
        """What the node sends from now on waits for a person."""
        self._connection.execute("UPDATE node SET held = 1 WHERE name = ?", (node,))

    def table(self, log: int) -> LogTable:
        """The log's leaves and tiles."""
        return LogTable(self._connection, log)

    def _hold(self, log: int, first: int, end: int) -> None:
        # consecutive commits make one range: the table stays as long as there were incidents
        self._connection.execute("UPDATE hold SET end = ? WHERE log = ? AND end = ?", (end, log, first))
        if self._connection.changes() == 0:
            self._connection.execute("INSERT INTO hold (log, first, end) VALUES (?, ?, ?)", (log, first, end))

    # -- alarms ----------------------------------------------------------------------------------------------------

    def alarm(self, code: str, node: str, stream: str, now_us: int) -> None:
        """Remember an alarm: one row per kind and place. A stream that is not held is not named: its name would be anybody's, as often as he likes."""
        self._connection.execute(
            "INSERT INTO alarm (code, node, stream, first_us, last_us, count)"
            " VALUES (?1, ?2, iif(EXISTS (SELECT 1 FROM log WHERE node = ?2 AND stream = ?3), ?3, ''), ?4, ?4, 1)"
            " ON CONFLICT (code, node, stream) DO UPDATE SET last_us = excluded.last_us, count = count + 1",
            (code, node, stream, now_us),
        )

    # -- inside ----------------------------------------------------------------------------------------------------

    def _all(self, statement: str, bindings: Sequence[Any]) -> list[Row]:
        return list(self._connection.execute(statement, bindings))

    def _one(self, statement: str, bindings: Sequence[Any]) -> Row:
        (row,) = self._all(statement, bindings)
        return row


def _held_log(row: Row) -> HeldLog:
    node, stream, epoch, tag, size, peaks, note, key = row
    return HeldLog(origin=Origin(node, stream, epoch, tag), frontier=Frontier(size, peaks), note=note, key=key)
