"""The nodes' log keys in the ledger, inside the writer's transaction: certificates, which is in force for each log, and the changes."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import apsw

from sync.certificates import der, read, verifier_of
from sync.keys import COSIGNATURE_V1, ED25519, Verifier, key_id
from sync.log_keys import Change, LogKeys
from sync.names import EPOCHS_AHEAD_MAX
from sync.receiver import OpenLog
from sync.release import read_release

LOG, COSIGN = "log", "cosign"  # roles of kept certificates
VERIFIERS_MAX = 4096  # parsed log keys held in memory: every node of a country's region, 1 MB
# Further epochs of a stream that one key may open before a person releases or revokes: each came of a restored or copied node. A bound for each key, so
# that whoever has an earlier one uses up his own; and a node that is put back every night has most of a year. One that lies farther ahead than a step
# (EPOCHS_AHEAD_MAX) is as many openings as it takes steps: at once a key reaches what it would reach one by one.
KEY_EPOCHS_MAX = 256
KEPT_MAX = 64  # of one node's certificates: two renewals a year for longer than a node stands


class Brought(NamedTuple):
    """A log certificate (DER) that a session or a stick brings, judged by the front end: good, and `current` if it is valid now."""

    certificate: bytes
    current: bool


class KeyRows:
    """Typed reads and writes on the writer's connection. `now_us` is passed in with each write, UTC microseconds."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._verifiers: dict[int, Verifier] = {}

    def forget(self) -> None:
        """Something was rolled back: a row that was read of it may soon be another certificate's."""
        self._verifiers.clear()

    def keep_certificate(self, owner: str, role: str, certificate: bytes, now_us: int) -> int:
        """Keep a certificate (DER) under its owner and key id; give its row. Raises BadCertificate."""
        parsed = read(certificate)
        public = verifier_of(parsed, owner).public
        found = key_id(owner, COSIGNATURE_V1 if role == COSIGN else ED25519, public)
        values = (owner, role, found, der(parsed))
        self._connection.execute(
            "INSERT OR IGNORE INTO certificate (owner, role, key_id, der, added_us) VALUES (?, ?, ?, ?, ?)",
            (*values, now_us),
        )
        rows = self._all("SELECT id FROM certificate WHERE owner = ? AND role = ? AND key_id = ? AND der = ?", values)
        return int(rows[0][0])

    def use(self, node: str, brought: Iterable[Brought], now_us: int) -> None:
        """Let the keys of these certificates count for the node's next checkpoints, in place of those before."""
        self._connection.execute("DELETE FROM session_key WHERE node = ?", (node,))
        for each in brought:
            row = self.keep_certificate(node, LOG, each.certificate, now_us)
            self._connection.execute(
                "INSERT OR IGNORE INTO session_key VALUES (?, ?, ?)", (node, row, int(each.current))
            )

    def of_log(
        self, node: str, log: int, vouched: Iterable[bytes] = (), carried: Sequence[Brought] = ()
    ) -> LogKeys:  # fmt: skip
        """The keys of a log (0: of one that is not held yet). `vouched`: certificates of a batch's change records, DER, judged good.

        `carried`: certificates that came with a stick, in place of the session's.
        """
        brought = [(verifier_of(read(each.certificate), node), each.current) for each in carried] or [
            (self._verifier(node, row), bool(current))
            for row, current in self._all("SELECT certificate, current FROM session_key WHERE node = ?", (node,))
        ]
        rows = self._all("SELECT certificate, stream, epoch FROM log WHERE id = ? AND certificate <> 0", (log,))
        in_force, changes = self._verifier(node, rows[0][0]) if rows else None, self._changes(node, log)
        return LogKeys(
            in_force=in_force, changes=changes, certified=tuple(key for key, current in brought if current),
            # it was not brought under a certificate that is good: revoked, or taken out of the node too early
            lapsed=in_force is not None and in_force.public not in {key.public for key, _ in brought},
            vouched={each: verifier_of(read(each), node) for each in vouched},
            retired=frozenset() if in_force is None else self._were_in_force(node, rows[0][1], rows[0][2], changes) - {in_force.public},
        )  # fmt: skip

    def _were_in_force(self, node: str, stream: str, epoch: int, changes: Sequence[Change]) -> frozenset[bytes]:
        """The public keys that ever signed a log of this stream, up to this epoch, and did not sign this one's end: an older one that still
        grows by hand hands over to later keys. `changes`: those of the log itself.
        """
        if epoch == 1:  # nearly always: there is no log before it
            return frozenset([change.before.public for change in changes])
        rows = self._all(
            "SELECT certificate FROM log WHERE node = ?1 AND stream = ?2 AND epoch <= ?3 AND certificate <> 0"
            " UNION SELECT before FROM key_change JOIN log ON log.id = key_change.log WHERE node = ?1 AND stream = ?2 AND epoch <= ?3",
            (node, stream, epoch),
        )
        return frozenset(self._verifier(node, row).public for (row,) in rows)

    def for_statement(self, node: str, stream: str, log: int, carried: Sequence[Brought]) -> LogKeys:
        """The keys by which a statement of a stream is judged, of which this log is the newest."""
        keys = self.of_log(node, log, carried=carried)
        in_force = set() if keys.in_force is None else {keys.in_force.public}
        return replace(keys, kept=self._kept(node), retired=self._followed(node, stream) - in_force)

    def _followed(self, node: str, stream: str) -> frozenset[bytes]:
        """The public keys that another has followed in a stream: a record says so, which both sign, or a person's release of what came after.

        No statement by itself says so: its text names no key, and lines can be left out or added on the way by whoever has an earlier key.
        """
        rows = self._all(
            "SELECT before FROM key_change JOIN log ON log.id = key_change.log WHERE node = ? AND stream = ?",
            (node, stream),
        )
        by_record = {self._verifier(node, row).public for (row,) in rows}
        logs = self._all(
            "SELECT certificate FROM log WHERE node = ? AND stream = ? AND epoch <= ? AND certificate <> 0 ORDER BY epoch",
            (node, stream, self._released(node, stream)),
        )
        *before, last = [self._verifier(node, row).public for (row,) in logs] or [b""]
        return frozenset(by_record | {*before} - {last})

    def _released(self, node: str, stream: str) -> int:
        """The newest epoch of a stream that a person has released; 0: none. The newest release names the newest log of every stream."""
        rows = self._all("SELECT statement FROM release WHERE node = ? ORDER BY signed_at DESC LIMIT 1", (node,))
        logs = read_release(rows[0][0]).logs if rows else ()
        return max((found.epoch for found in logs if found.stream == stream), default=0)

    def _kept(self, node: str) -> tuple[Verifier, ...]:
        """The newest of all log keys that were ever certified for the node."""
        rows = self._all(
            "SELECT id FROM certificate WHERE owner = ? AND role = ? ORDER BY id DESC LIMIT ?", (node, LOG, KEPT_MAX)
        )
        return tuple(self._verifier(node, row) for (row,) in rows)

    def has_opened_enough(self, effect: OpenLog, revoked: Collection[int]) -> bool:
        """Whether the key of this statement has opened as many logs of the stream as it may, since a person released its last ones.

        What follows a log of a revoked key was the answer to it: one opening is given back.
        """
        if effect.key is None:
            return False
        node, stream = effect.origin.node, effect.origin.stream
        released = self._released(node, stream)
        rows = self._all(
            "SELECT epoch, certificate, epoch > ? AND opening <> x'' FROM log WHERE node = ? AND stream = ? AND epoch >= ? ORDER BY epoch",
            (released, node, stream, released),
        )
        keys = [self._verifier(node, row).public if row else b"" for _, row, _ in rows]
        ends = [*(epoch for epoch, _, _ in rows), effect.origin.epoch]
        own = [n for n, (_, _, counts) in enumerate(rows) if counts and keys[n] == effect.key.public]
        spent = sum(_openings(ends, n) for n in (*own, len(rows)))
        if spent <= KEY_EPOCHS_MAX:
            return False
        lost = {each for each in set(keys) - {b""} if self._is_revoked(node, each, revoked)}
        return spent - sum(n > 0 and keys[n - 1] in lost for n in own) > KEY_EPOCHS_MAX

    def _is_revoked(self, node: str, public: bytes, revoked: Collection[int]) -> bool:
        """Whether no certificate of this log key is good any more."""
        found = key_id(node, ED25519, public)
        rows = self._all("SELECT der FROM certificate WHERE owner = ? AND role = ? AND key_id = ?", (node, LOG, found))
        return all(read(data).serial_number in revoked for (data,) in rows)

    def sign_from(self, node: str, log: int, key: Verifier, changes: Sequence[Change] = ()) -> None:
        """This key is in force for the log; `changes`: the records by which it came to it."""
        for change in changes:
            self._connection.execute(
                "INSERT INTO key_change (log, seq, before, after) VALUES (?, ?, ?, ?)",
                (log, change.seq, self._row(node, change.before), self._row(node, change.after)),
            )
        self._connection.execute("UPDATE log SET certificate = ? WHERE id = ?", (self._row(node, key), log))

    def keep_followers(self, node: str, vouched: Iterable[bytes], now_us: int) -> None:
        """Keep the certificates that a node's change records bring: they count from now on as if the session had brought them."""
        for each in vouched:
            row = self.keep_certificate(node, LOG, each, now_us)
            self._connection.execute("INSERT OR IGNORE INTO session_key VALUES (?, ?, 1)", (node, row))

    # -- inside ----------------------------------------------------------------------------------------------------

    def _changes(self, node: str, log: int) -> tuple[Change, ...]:
        rows = self._all("SELECT seq, before, after FROM key_change WHERE log = ? ORDER BY seq", (log,))
        return tuple(
            Change(seq, self._verifier(node, before), self._verifier(node, after)) for seq, before, after in rows
        )

    def _row(self, node: str, key: Verifier) -> int:
        """A certificate of this key: which of several that it had does not matter here."""
        found = key_id(node, ED25519, key.public)
        rows = self._all(
            "SELECT max(id) FROM certificate WHERE owner = ? AND role = ? AND key_id = ?", (node, LOG, found)
        )
        return int(rows[0][0])

    def _verifier(self, node: str, row: int) -> Verifier:
        if row not in self._verifiers:
            if len(self._verifiers) >= VERIFIERS_MAX:
                self._verifiers.clear()
            ((data,),) = self._all("SELECT der FROM certificate WHERE id = ?", (row,))
            self._verifiers[row] = verifier_of(read(data), node)
        return self._verifiers[row]

    def _all(self, statement: str, bindings: Sequence[Any]) -> list[tuple[Any, ...]]:
        return list(self._connection.execute(statement, bindings))


def _openings(epochs: Sequence[int], at: int) -> int:
    """As how many openings one counts, of a stream's epochs in their order: the steps from the one before to it. What lies before a first is not known."""
    return -((epochs[at - 1] - epochs[at]) // EPOCHS_AHEAD_MAX) if at else 1
