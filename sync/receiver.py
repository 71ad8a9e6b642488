"""The gateway's half of the protocol, pure: a judge of envelope, order and signature, never of content.

The driver reads the rows it needs inside a transaction, asks, performs the effects in that transaction, commits, and only then answers.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sync.announced import Announced
from sync.batch import Batch
from sync.checkpoint import Checkpoint, Note, parse_note
from sync.errors import NotAName, SyncError, WrongKey
from sync.held import HeldLog
from sync.key_ring import id_of
from sync.keys import COSIGNATURE_V1, Signer, Verifier, key_id
from sync.log import Frontier, Leaves, root_at
from sync.log_keys import Change, LogKeys, check_batch, check_opening
from sync.names import Origin
from sync.opening import Opening, parse_opening
from sync.receipt import cosign, cosign_text
from sync.record import BodyState, Record
from sync.session import SessionRequest

# -- events ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """What the ledger remembers of a node's starts: the last admitted one, its fence, all earlier ones, whether its records are held."""

    boot: str
    fence: str
    earlier: frozenset[str]
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionAsked:
    """A node's start asks to be admitted. `fresh` is a new random fence; `stale`: its connection is younger than a newer start's admission.

    `heads`: those that it brings, verified by the log keys that it brings (`read_heads`); `announced`: those that the node announced last, one of a stream.
    """

    node: str
    request: SessionRequest
    known: Admitted | None
    logs: tuple[HeldLog, ...]
    fresh: str
    stale: bool
    heads: tuple[Announced, ...] = ()
    announced: tuple[Announced, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochAsked:
    """A statement that a stream goes on under a further epoch. `held`: the stream's newest log (None: never declared), `stored` its own statement;
    `find` gives size and leaves of one of the node's logs, None where it is not held; `keys`: those of the newest log.
    `carried`: it came by hand, and has no fence; `same`: the log that this very statement opened, which need not be the newest by now.
    """

    node: str
    stream: str
    fence: str
    known: Admitted | None
    held: HeldLog | None
    stored: bytes
    statement: bytes
    keys: LogKeys
    find: Callable[[Origin], tuple[int, Leaves] | None]
    carried: bool = False
    same: HeldLog | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PutAsked:
    """A batch for a log: `held` is its head row (None: never declared), `leaves` reads its stored hashes, `keys` may sign it.

    `lacking`: those of its positions that are stored, but without what was damaged on the way.
    `carried`: it came by hand, on a stick; it has no fence, and everything else is judged as ever. `announced`: see SessionAsked.
    """

    node: str
    origin_stream: str
    epoch: int
    first: int
    fence: str
    known: Admitted | None
    held: HeldLog | None
    leaves: Leaves
    keys: LogKeys
    batch: Batch
    lacking: frozenset[int] = frozenset()
    carried: bool = False
    announced: Announced | None = None


# -- effects -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Admit:
    """Make this start the last admitted one under this fence. `hold`: it may be a copy; its records wait for a person.

    `superseded`: older starts that it names, to be remembered with those admitted. A call of theirs that is still under way is late, not a copy.
    """

    boot: str
    fence: str
    hold: bool
    superseded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OpenLog:
    """Make an empty head row. `opening`: the statement of a further epoch, whose records are held; its lane is that of the epoch before, and
    `key` signs it.
    """

    origin: Origin
    lane: str
    opening: bytes = b""
    key: Verifier | None = None


@dataclass(frozen=True, slots=True)
class Announce:
    """Keep what the node announced of a stream, in the place of what was kept before."""

    head: Announced


@dataclass(frozen=True, slots=True)
class Append:
    """Append these records and swap the head from `before` to `after` under this cosigned note.

    `key` is in force from then on; `changes`: where, among these records, it became so.
    """

    origin: Origin
    before: Frontier
    after: Frontier
    note: bytes
    records: tuple[Record, ...]
    key: Verifier
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Fill:
    """Give these stored records what they lacked: it fits their leaves, which stay as they are."""

    origin: Origin
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Raise:
    """Tell the centre, under a catalogue code."""

    code: str
    stream: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """200 to a session, with this fence."""

    fence: str
    held: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """200 to an opening statement: where that log ends, and a cosigned note of what the statement calls common (empty where that is not held)."""

    held: HeldLog
    receipt: bytes = b""


@dataclass(frozen=True, slots=True)
class Receipt:
    """200 to a PUT: the head's cosigned note."""

    note: bytes


@dataclass(frozen=True, slots=True)
class Refuse:
    """Problem+json with this code; `held` with `rewind`."""

    status: int
    code: str
    detail: str
    held: HeldLog | None = None


Effect = Admit | OpenLog | Announce | Append | Fill | Raise | Opened | Taken | Receipt | Refuse


class Receiver:
    """The judge. It keeps no state: front ends may be any number."""

    def __init__(self, cosigner: Signer) -> None:
        self._cosigner = cosigner

    def handle(self, event: SessionAsked | EpochAsked | PutAsked, now: int) -> list[Effect]:
        """Judge one call at `now` (POSIX seconds, UTC; only for receipts); the last effect is the answer."""
        if isinstance(event, SessionAsked):
            return self._session(event)
        if isinstance(event, EpochAsked):
            return _epoch(event, lambda text: cosign_text(text, time=now, signer=self._cosigner))
        return self._put(event, now)

    # -- sessions -------------------------------------------------------------------------------------------------

    def _session(self, event: SessionAsked) -> list[Effect]:
        known, boot = event.known, event.request.boot
        older = tuple(each for each in event.request.boots if each != boot)
        opened = self._open_logs(event)
        told = _announced(event)
        if known is None:
            admit = Admit(boot, event.fresh, hold=False, superseded=older)
            return [admit, *opened, *told, Opened(event.fresh, held=False)]
        if boot == known.boot:
            return [*opened, *told, Opened(known.fence, known.held)]
        if boot in known.earlier:
            # an older start that calls anew after a newer one was admitted: two of them are alive
            alarms: list[Effect] = [Raise("GWY-11")] if event.stale else []
            return [*alarms, Refuse(403, "fenced", "a newer start of this node was admitted")]
        continues = known.fence == event.request.fence or known.boot in event.request.boots
        suspect: list[Effect] = [] if continues else [Raise("GWY-10")]
        held = known.held or not continues
        admit = Admit(boot, event.fresh, hold=held, superseded=older)
        return [*suspect, admit, *opened, *told, Opened(event.fresh, held)]

    def _open_logs(self, event: SessionAsked) -> list[Effect]:
        there = {log.origin.stream for log in event.logs}
        return [
            OpenLog(Origin(event.node, own.stream, own.epoch, own.tag), own.lane)
            for own in event.request.streams
            if own.stream not in there
        ]

    # -- batches --------------------------------------------------------------------------------------------------

    def _put(self, event: PutAsked, now: int) -> list[Effect]:
        refusal = self._refuse_early(event)
        if refusal is not None:
            return [refusal]
        held, batch = event.held, event.batch
        is_there = held is not None and (batch.epoch, batch.tag) == (held.origin.epoch, held.origin.tag)
        if held is None or not is_there or event.first > held.frontier.size:
            return [Refuse(409, "rewind", "this is not where the log ends", held)]
        size, end = held.frontier.size, batch.first + len(batch.records)
        try:
            signed = check_batch(
                parse_note(batch.checkpoint), batch.records, first=batch.first, size=size, epoch=batch.epoch, keys=event.keys
            )  # fmt: skip
        except WrongKey as error:
            return [Raise("GWY-22", held.origin.stream), Refuse(422, "bad-key", str(error))]
        except SyncError as error:
            return [Refuse(422, "bad-batch", f"checkpoint: {error}")]
        checkpoint = signed.checkpoint
        if checkpoint.origin != held.origin or checkpoint.size != end:
            return [Refuse(422, "bad-batch", "the checkpoint speaks of something else")]
        both = max(0, min(size, end) - batch.first)
        repeated = b"".join(record.leaf for record in batch.records[:both])
        if event.leaves.leaves(batch.first, both) != repeated:
            return [Raise("GWY-12", held.origin.stream), Refuse(412, "fork", "stored leaves differ")]
        fresh = tuple(batch.records[both:])
        after = held.frontier.append(b"".join(record.leaf for record in fresh))
        expected = after.root if end >= size else root_at(event.leaves, end)
        if checkpoint.root != expected:
            return [Raise("GWY-12", held.origin.stream), Refuse(412, "fork", "the roots differ")]
        # equal leaves: each header, and in it each commitment, is the stored one, so these bytes are what was lost
        found = tuple(r for r in batch.records[:both] if r.state is BodyState.PRESENT and r.seq in event.lacking)
        filled: list[Effect] = [Fill(held.origin, found)] if found else []
        if not fresh:
            return [*filled, Receipt(self._again(held.note, now))]
        note = cosign(batch.checkpoint, time=now, signer=self._cosigner)
        said = event.announced
        denied: list[Effect] = []
        if said and said.origin == held.origin and said.is_broken_by(held.frontier, [r.leaf for r in fresh]):
            denied = [Raise("GWY-19", held.origin.stream)]
        append = Append(held.origin, held.frontier, after, note, fresh, signed.key, signed.changes)
        return [*filled, *denied, append, Receipt(note)]

    def _again(self, note: bytes, now: int) -> bytes:
        """The receipt that was given before; under a renewed cosigning key, the same checkpoint cosigned by that."""
        parsed, mine = parse_note(note), key_id(self._cosigner.name, COSIGNATURE_V1, self._cosigner.public)
        if any((line.name, line.key_id) == (self._cosigner.name, mine) for line in parsed.signatures):
            return note
        return cosign(Note(parsed.text, parsed.signatures[:-1]).encode(), time=now, signer=self._cosigner)

    def _refuse_early(self, event: PutAsked) -> Refuse | None:
        batch = event.batch
        # a node that was only ever carried has no fence yet: an empty one is nobody's
        if event.known is None or (not event.carried and (not event.fence or event.fence != event.known.fence)):
            return _fenced()
        try:
            named = Origin.parse(f"{batch.node}/{batch.stream}/{batch.epoch}-{batch.tag}")
        except NotAName:
            return Refuse(422, "bad-batch", "the batch names no log")
        address = (event.node, event.origin_stream, event.epoch, event.first)
        if (named.node, named.stream, named.epoch, batch.first) != address:
            return Refuse(422, "bad-batch", "batch and address differ")
        return None


def _announced(event: SessionAsked) -> list[Effect]:
    """Keep the heads that are news; say where one contradicts what the node had announced."""
    known = {head.origin.stream: head for head in event.announced}
    same_start = event.known is not None and event.known.boot == event.request.boot
    effects: list[Effect] = []
    for head in event.heads:
        before = known.get(head.origin.stream)
        if before is not None and before.is_denied_by(head, same_start=same_start):
            effects.append(Raise("GWY-19", head.origin.stream))
        if before is None or before.origin != head.origin or before.size < head.size or not same_start:
            effects.append(Announce(head))
    return effects


def _fenced() -> Refuse:
    return Refuse(403, "fenced", "this fence is not the latest")


def _epoch(event: EpochAsked, cosigned: Callable[[str], bytes]) -> list[Effect]:
    """Judge a statement: it must be the node's own, later than what is held, and true in what it says is common."""
    # as with batches: a node that was only ever carried has an empty fence, which is nobody's
    if event.known is None or (not event.carried and (not event.fence or event.fence != event.known.fence)):
        return [_fenced()]
    try:
        note = parse_note(event.statement)
        opening = parse_opening(note)
    except SyncError as error:
        return [Refuse(422, "bad-opening", str(error))]
    opened, held = opening.opened, event.held
    if (opened.node, opened.stream) != (event.node, event.stream):
        return [Refuse(422, "bad-opening", "the statement is of another stream")]
    # its signatures were verified when it was taken; a change of the key may have come since
    if held is not None and held.origin == opened and event.stored == event.statement:
        return [Taken(held, _of_common(event, opening, cosigned))]
    if event.same is not None and event.same.origin == opened:
        return [Taken(event.same)]  # an old stick after a newer one
    try:
        opener = check_opening(note, event.keys)
    except WrongKey as error:
        # an old stick may bear a key that another has followed since
        late = _refuse_order(event, opening) if event.carried else None
        return [late] if late else [Raise("GWY-22", opened.stream), Refuse(422, "bad-key", str(error))]
    except SyncError as error:
        return [Refuse(422, "bad-opening", str(error))]
    if (refusal := _refuse_order(event, opening)) is not None:
        return [refusal]
    found = event.find(opening.common.origin)
    # of a log that is not held any more nothing can be compared: the ledger is the one that forgot
    if found is not None and not _is_true(opening, *found):
        return [Raise("GWY-12", opened.stream), Refuse(412, "fork", "what the statement calls common is not")]
    return [
        Raise("GWY-17", opened.stream),
        *([] if opener.continues else [Raise("GWY-23", opened.stream)]),
        OpenLog(opened, "" if held else "routine", event.statement, opener.key),
        Taken(
            HeldLog(origin=opened, frontier=Frontier(), note=b"", key=id_of(opener.key)),
            _of_common(event, opening, cosigned),
        ),
    ]


def _of_common(event: EpochAsked, opening: Opening, cosigned: Callable[[str], bytes]) -> bytes:
    """The receipt of what is common. A backup may not have the one that was given; and where nothing is carried over and no room is left, no other follows."""
    common, found = opening.common, event.find(opening.common.origin)
    if not common.size or found is None or not _is_true(opening, *found):
        return b""
    return cosigned(Checkpoint(common.origin, common.size, common.root).text())


def _refuse_order(event: EpochAsked, opening: Opening) -> Refuse | None:
    """Where the statement does not come next. By hand there was no session that told the node what is held: less than it took for common is no fork."""
    held, common = event.held, opening.common
    if held is not None and opening.opened.epoch <= held.origin.epoch:
        return Refuse(409, "rewind", "a later epoch is open", held)
    if held is None:
        return None if event.carried and common.size == 0 else Refuse(409, "rewind", "nothing of this stream is held")
    found = event.find(common.origin) if event.carried else None
    if found is not None and found[0] < common.size:
        return Refuse(409, "rewind", "what is common has not come yet", held)
    return None


def _is_true(opening: Opening, size: int, leaves: Leaves) -> bool:
    return opening.common.size <= size and root_at(leaves, opening.common.size) == opening.common.root
