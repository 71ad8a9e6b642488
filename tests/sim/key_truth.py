"""Which log key may sign what, as the oracle finds it from the records themselves: it shares nothing with the judge in sync/log_keys.py."""

import json
from base64 import b64decode
from typing import Any, NamedTuple

from gateway.ledger import EpochCall, PutCall
from sync.checkpoint import parse_checkpoint, parse_note
from sync.errors import SyncError
from sync.keys import ED25519, Verifier, key_id
from sync.receiver import Receipt, Refuse, Taken
from tests.sim.keys import HashVerifier
from tests.sim.machine import broken

ALARMS = {"SYN-15", "SYN-32", "GWY-22", "GWY-23"}
_LOGS = "SELECT note, opening FROM log WHERE node = ? ORDER BY stream, epoch"


class Control(NamedTuple):
    """A change record: the log that it was written for, and the keys by their numbers."""

    stream: str
    epoch: int
    before: int
    after: int


class Ends(NamedTuple):
    """The first key of a log, and the one that signs its end."""

    first: int
    last: int


class KeyTruth:
    """The oracle of the keys of one world. Keys are known by their numbers in the order in which they were made."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.stolen = False  # something that a thief signed was taken, by whatever ledger
        self.spurned = False  # a statement that he had altered was refused for its key
        self.forget()

    def forget(self) -> None:
        """The gateway's disk was rolled back or replaced."""
        self.changes: dict[str, list[tuple[int, int, int]]] = {}  # of a log: seq, before, after
        self.seen: set[bytes] = set()  # leaves of change records

    # -- the node ----------------------------------------------------------------------------------------------------

    def opened(self, outbox: Any) -> None:
        """A start verified its heads and has not handed over yet: one transaction changes all streams, or none."""
        last = {self._signers(head.checkpoint)[-1] for head in outbox.heads.values()}
        if len(last) > 1 and not self.world.copied:
            broken(f"the streams of one node are under several keys: {sorted(last)}")

    def handed_over(self, box: Any, outbox: Any, before: dict[str, Any]) -> None:
        """And now it has: all is under the present key; where a record says so, both keys sign it."""
        mine = self._number(box.log.signer.public)
        for name, head in outbox.heads.items():
            signers, old = self._signers(head.checkpoint), before[name]
            if signers[-1] != mine:
                broken(f"{head.origin} is under key {signers[-1]}, the node has key {mine}")
            grown = head.frontier.size - old.frontier.size
            if grown and (grown != 1 or signers != [self._signers(old.checkpoint)[-1], mine]):
                broken(f"{head.origin} grew by {grown} under keys {signers}")
            if grown:
                self.world.counts["keys changed"] += 1
            elif (old.frontier.size or old.opening) and old.checkpoint != head.checkpoint:
                broken(f"{head.origin} is under another key without a word")

    def alarm(self, code: str) -> None:
        """A box or the centre says that something is wrong with a key: not without a cause."""
        world = self.world
        if code == "SYN-33" and not self.stolen:
            broken("a false alarm: the gateway has nothing under another's key")
        if code not in ALARMS or world.copied or world.centre_rolled_back or world.changes.hasty:
            return
        if not any(each.since for each in world.changes.made) and not world.counts["resign"]:
            broken(f"a false alarm of a log key: {code}")

    # -- the ledger --------------------------------------------------------------------------------------------------

    def read(self, body: bytes) -> Control:
        """What a change record says; nothing else that is no message is ever written here."""
        said = json.loads(body)
        before, after = (self._number(bytes.fromhex(said[name])) for name in ("before", "after"))
        if not 0 <= before < after:
            broken(f"a change from key {before} to {after}")
        if b64decode(said["certificate"]) not in self.world.changes.certificates:
            broken("a change record brings a certificate that nobody gave")
        return Control(said["stream"], said["epoch"], before, after)

    def take(self, origin: str, seq: int, leaf: bytes, found: Control) -> None:
        """A change record is in the ledger: once, in its stream, and it counts in the log that it was written for."""
        if leaf in self.seen:
            broken(f"{origin} {seq}: a change of the key a second time")
        if found.stream != _stream(origin) or found.epoch > _epoch(origin):
            broken(f"{origin} {seq}: a change of another log")
        self.seen.add(leaf)
        if found.epoch == _epoch(origin):
            self.changes.setdefault(origin, []).append((seq, found.before, found.after))

    def committed(self, centre: Any, group: Any) -> None:
        """A transaction of the ledger is over, and its records were looked at: what it took was signed as it has to be."""
        if not any(isinstance(each.call, PutCall | EpochCall) for each in group):
            return
        if any(_note(each) in self.world.changes.altered for each in group):
            self.stolen = True
            self.world.counts["thief's taken"] += 1
        self.spurned |= any(
            isinstance(each.call, EpochCall) and isinstance(each.answer, Refuse) and each.answer.code == "bad-key"
            and each.call.statement in self.world.changes.altered
            for each in group
        )  # fmt: skip
        logs = self._logs(centre)
        for waiting in group:
            if isinstance(waiting.call, PutCall) and isinstance(waiting.answer, Receipt):
                self._check_put(waiting.call, logs, centre)
            elif isinstance(waiting.call, EpochCall) and isinstance(waiting.answer, Taken) and waiting.alarms:
                self._check_opening(waiting, logs, centre)

    def _logs(self, centre: Any) -> dict[str, Ends]:
        """Of each log that has a key: the first, and the last, to which the changes lead."""
        found = {}
        for note, opening in centre.connection.execute(_LOGS, (self.world.node,)).fetchall():
            if not note and not opening:
                continue
            origin = str(parse_checkpoint(parse_note(note).text).origin) if note else _opened(opening)
            last = self._signers(note or opening)[-1]
            changes = self.changes.get(origin, [])
            key = first = self._signers(opening)[-1] if opening else changes[0][1] if changes else last
            for seq, before, after in changes:
                if before != key:
                    broken(f"{origin} {seq} hands over from key {before}, in force is {key}")
                key = after
            if key != last:
                broken(f"{origin}: key {last} signed the head, in force is {key}")
            found[origin] = Ends(first, last)
        return found

    def _check_put(self, call: PutCall, logs: dict[str, Ends], centre: Any) -> None:
        """The key in force at its beginning signed a batch, and each to which it hands over; these are certified and new."""
        origin = f"{call.node}/{call.stream}/{call.epoch}-{call.batch.tag}"
        first, end = call.batch.first, call.batch.first + len(call.batch.records)
        changes = self.changes.get(origin, [])
        wanted = [next((after for seq, _, after in reversed(changes) if seq < first), logs[origin].first)]
        for seq, _, after in changes:
            if first <= seq < end:
                wanted.append(after)
                self._check_follower(origin, seq, after, logs, centre)
        found = self._signers(call.batch.checkpoint)
        if found != wanted:
            broken(f"{origin} from {first} to {end} was taken under keys {found}, in force are {wanted}")
        if not self._is_good(wanted[0], centre):
            broken(f"{origin} from {first} on was taken under key {wanted[0]}, of which no certificate is good")
        self.verify(call.batch.checkpoint)

    def _check_opening(self, waiting: Any, logs: dict[str, Ends], centre: Any) -> None:
        """The new log's key signed its statement last; it is certified and no other has followed it; without the old one's word there is an alarm."""
        statement = waiting.call.statement
        self.verify(statement)
        signers, origin = self._signers(statement), _opened(statement)
        older = [name for name in logs if _stream(name) == _stream(origin) and _epoch(name) < _epoch(origin)]
        if not older:
            return
        now = logs[max(older, key=_epoch)].last
        if signers[-1] != now:
            self._check_good(origin, 0, signers[-1], centre)
            if signers[-1] in self._gone(origin, logs, centre):
                broken(f"{origin} was opened under key {signers[-1]}, which another has followed")
        if now not in signers and "GWY-23" not in {effect.code for effect in waiting.alarms}:
            broken(f"{origin} was opened without the word of key {now}, and nobody was told")

    def _gone(self, origin: str, logs: dict[str, Ends], centre: Any) -> set[int]:
        """The keys that another has followed in this stream before this log: a change record says so, or a person's release of a later log."""
        older = sorted(
            (name for name in logs if _stream(name) == _stream(origin) and _epoch(name) < _epoch(origin)), key=_epoch
        )
        found = {before for name in older for _, before, _ in self.changes.get(name, ())}
        released = 0
        for (word,) in centre.connection.execute("SELECT statement FROM release ORDER BY signed_at").fetchall():
            named = [line for line in word.decode().split("\n")[4:] if line and _stream(line) == _stream(origin)]
            released = max(map(_epoch, named), default=0)
        seen = [logs[name].last for name in older if _epoch(name) <= released]
        return found | {key for key in seen if key != seen[-1]}

    def is_gone(self, stream: str, key: int, centre: Any) -> bool:
        """Whether no further epoch of this stream can be under this key any more: another has followed it, by all that the ledger holds."""
        logs = self._logs(centre)
        after = max((_epoch(name) for name in logs if _stream(name) == stream), default=0) + 1
        return key in self._gone(f"{self.world.node}/{stream}/{after}-", logs, centre)

    def _check_good(self, origin: str, seq: int, key: int, centre: Any) -> None:
        if not self._is_good(key, centre):
            broken(f"{origin} {seq} hands over to key {key}, of which no certificate is good")

    def _check_follower(self, origin: str, seq: int, key: int, logs: dict[str, Ends], centre: Any) -> None:
        self._check_good(origin, seq, key, centre)
        if key in self._followed(origin, seq, logs):
            broken(f"{origin} {seq} hands over to key {key}, which another has followed")

    def _followed(self, origin: str, seq: int, logs: dict[str, Ends]) -> set[int]:
        """The keys that were in force before this place of a stream."""
        found: set[int] = set()
        for name, ends in logs.items():
            if _stream(name) == _stream(origin) and _epoch(name) < _epoch(origin):
                found |= {*ends, *(before for _, before, _ in self.changes.get(name, ()))}
        return found | {before for at, before, _ in self.changes.get(origin, ()) if at < seq}

    # -- keys --------------------------------------------------------------------------------------------------------

    def verify(self, note: bytes) -> None:
        """The node's signatures on a note are those of keys that were made for it."""
        parsed = parse_note(note)
        kind = Verifier if self.world.schedule.real_keys else HashVerifier
        lines = [line for line in parsed.signatures if line.name == self.world.node]
        for number, line in zip(self._signers(note), lines, strict=True):
            if number < 0:
                broken("a stranger signed what was taken")
            try:
                kind(line.name, self.world.changes.made[number].signer.public).verify(parsed.text.encode(), line.blob)
            except SyncError:
                broken("what was taken bears a signature that is none")

    def _is_good(self, number: int, centre: Any) -> bool:
        """Whether a certificate of this key counts by now; where the centre's clock had jumped it may have counted before its day."""
        world = self.world
        return world.changes.good_from[number] <= centre.now_us() // 1_000_000 or world.counts["op clock-centre"] > 0

    def _number(self, public: bytes) -> int:
        return int(self.world.changes.number(public))

    def _signers(self, note: bytes) -> list[int]:
        """The numbers of the node's own keys that signed, in their order; -1 for a stranger's."""
        node = self.world.node
        ids = {key_id(node, ED25519, each.signer.public): n for n, each in enumerate(self.world.changes.made)}
        return [ids.get(line.key_id, -1) for line in parse_note(note).signatures if line.name == node]


def _note(waiting: Any) -> bytes:
    """What was signed of what a call brought and the ledger took; empty: nothing."""
    if isinstance(waiting.call, PutCall) and isinstance(waiting.answer, Receipt):
        return bytes(waiting.call.batch.checkpoint)
    return (
        bytes(waiting.call.statement)
        if isinstance(waiting.call, EpochCall) and isinstance(waiting.answer, Taken)
        else b""
    )


def _opened(statement: bytes) -> str:
    return parse_note(statement).text.split("\n")[1]


def _stream(origin: str) -> str:
    return origin.split("/")[1]


def _epoch(origin: str) -> int:
    return int(origin.rsplit("/", 1)[1].partition("-")[0])
