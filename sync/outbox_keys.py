"""Which log keys sign the logs of an outbox, and the change from one to the next: a record in each stream, under both, all in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sync.checkpoint import Checkpoint, parse_note, sign_checkpoint
from sync.errors import KeyFollowed, NotANote
from sync.key_ring import KeyRing, OwnKeys, id_of, last_id
from sync.keys import ED25519, Signer, key_id
from sync.log import EMPTY_ROOT
from sync.outbox_heads import Head
from sync.store import Execute


def read_changes(connection: Execute) -> dict[int, list[tuple[int, bytes, bytes]]]:
    """The changes of the key in each log, by its row: seq, and the public keys before and after."""
    found: dict[int, list[tuple[int, bytes, bytes]]] = {}
    rows: Any = connection.execute("SELECT log, seq, before, after FROM key_change ORDER BY log, seq", ())
    for log, seq, before, after in rows:
        found.setdefault(log, []).append((seq, before, after))
    return found


def own_keys(node: str, note: bytes, changes: Sequence[tuple[int, bytes, bytes]]) -> OwnKeys:
    """The keys of one log, whose head bears this note."""
    try:
        last = last_id(note, node)
    except NotANote:  # a damaged row: the start refuses it, a reader goes on
        last = b""
    ids = [(seq, key_id(node, ED25519, before), key_id(node, ED25519, after)) for seq, before, after in changes]
    return OwnKeys(last, tuple(ids))


def old_keys(ring: KeyRing, heads: Mapping[str, Head]) -> dict[str, bytes]:
    """The streams whose newest log another key than the ring's present one signs, and that key's id."""
    found = {name: own_keys(ring.name, head.checkpoint, ()).last for name, head in heads.items()}
    return {name: key for name, key in found.items() if key and key != id_of(ring)}


def check_followed(connection: Execute, ring: KeyRing, streams: Mapping[str, Sequence[Head]]) -> None:
    """Raise KeyFollowed where the ring's present key would follow one that has followed it. `streams`: the logs of each, oldest first."""
    changes = read_changes(connection)
    for name, key in old_keys(ring, {name: logs[-1] for name, logs in streams.items()}).items():
        if id_of(ring) in _followed(ring.name, streams[name], changes):
            raise KeyFollowed(f"{name}: log key {key.hex()} signs here and has followed {id_of(ring).hex()} already")


def _followed(node: str, logs: Sequence[Head], changes: Mapping[int, Sequence[tuple[int, bytes, bytes]]]) -> set[bytes]:
    """The ids of the keys that another has followed in a stream: by a record, by a statement, or because an older log ends under it."""
    by_record = {before for head in logs for _, before, _ in own_keys(node, b"", changes.get(head.log, ())).changes}
    by_statement = {line.key_id for head in logs if head.opening for line in parse_note(head.opening).signatures[:-1]}
    return by_record | by_statement | {last_id(head.checkpoint, node) for head in logs[:-1]}


def to_hand_over(ring: KeyRing, heads: Mapping[str, Head]) -> tuple[list[tuple[Head, Signer]], list[Head]]:
    """The newest logs that an earlier key signs, with that key; and apart those that are empty, signed anew already. Raises KeyAbsent.

    Of an empty log nobody has seen a signature, unless a statement opened it; and a clinical stream starts without a control record.
    """
    changing, empty = [], []
    for name, key in old_keys(ring, heads).items():
        head = heads[name]
        if head.frontier.size or head.opening:
            changing.append((head, ring.signer(key)))
        else:
            empty.append(replace(head, checkpoint=sign_checkpoint(Checkpoint(head.origin, 0, EMPTY_ROOT), ring.now)))
    return changing, empty


def keep_change(connection: Execute, log: int, seq: int, before: Signer, after: Signer) -> None:
    """Remember that record `seq` hands over, within the caller's transaction."""
    connection.execute(
        "INSERT INTO key_change (log, seq, before, after) VALUES (?, ?, ?, ?)", (log, seq, before.public, after.public)
    )


def cut_changes(connection: Execute, log: int, size: int) -> None:
    """Forget the changes that a log no longer has since it ends at `size`."""
    connection.execute("DELETE FROM key_change WHERE log = ? AND seq >= ?", (log, size))


def keys_of(connection: Execute, ring: KeyRing, log: int, note: bytes) -> OwnKeys:
    """The keys of one log, read now."""
    return own_keys(ring.name, note, read_changes(connection).get(log, ()))
