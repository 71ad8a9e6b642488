"""Bodies in the outbox: how many bytes they have, how far each ledger has receipted them, and their end."""

from collections.abc import Iterable, Sequence
from typing import Any

import apsw

from sync.checkpoint import parse_checkpoint, parse_note
from sync.errors import SyncError
from sync.header import decode
from sync.names import Origin
from sync.opening import read_opening
from sync.outbox_heads import Head
from sync.outbox_segments import AT_PLACES, ROWS
from sync.store import bytes_of


def body_bytes(connection: apsw.Connection, head: Head, first: int, end: int) -> int:
    """Bytes of these records' bodies, for the page; where a page of them cannot be read, what their headers say: a receipt must not fail for it."""
    try:
        total: Any = connection.execute(
            f"SELECT coalesce(sum(length(body)), 0) FROM {ROWS} JOIN body USING (id) WHERE {AT_PLACES}",  # noqa: S608  # constants
            (head.run, head.start + first, head.start + end),
        ).get
        return int(total)
    except (apsw.CorruptError, apsw.IOError):
        return sum(_said_bytes(header) for _, header in head.table(connection).headers(first, end - first))


def receipted(connection: apsw.Connection, ledger: str, head: Head) -> tuple[int, int]:
    """Size and body bytes that a ledger has receipted, if the kept receipt says so too: a bit that flipped here must not delete a body."""
    row: Any = connection.execute(
        "SELECT size, octets, receipt FROM cursor WHERE ledger = ? AND log = ?", (ledger, head.log)
    ).fetchone()
    if row is None:
        return 0, 0
    try:
        said = parse_checkpoint(parse_note(bytes_of("a receipt", row[2])).text)
    except SyncError:
        return 0, 0
    return (row[0], row[1]) if (said.origin, said.size) == (head.origin, row[0]) else (0, 0)


def held_by(connection: apsw.Connection, ledger: str, heads: Sequence[Head]) -> list[int]:
    """Up to which size a ledger surely holds each log of a stream (oldest first): as receipted, or as a later epoch's statement says that it has taken.

    A gateway opens an epoch only where it has compared the root of what the statement calls common (docs/wire.md, section 5.2), and
    receipts it only then. A log that was cut there is never receipted again.
    """
    held = [receipted(connection, ledger, head)[0] for head in heads]
    for at in reversed(range(len(heads))):
        if held[at] and heads[at].opening:
            for older in range(at):
                held[older] = max(held[older], _common(heads[at].opening, heads[older].origin))
    return held


def _common(opening: bytes, origin: Origin) -> int:
    try:
        common = read_opening(opening).common
    except SyncError:
        return 0
    return common.size if common.origin == origin else 0


def bodies_from(windows: Iterable[tuple[int, int, int]]) -> int:
    """From which place of a run on bodies are left: `windows` are (start, size, trimmed) of its logs, oldest first; the run's end where none are.

    A log in which nothing was trimmed says nothing of those before it: that a further epoch begins at a place takes no body away.
    """
    end = 0
    for start, size, trimmed in windows:
        if trimmed < size:
            return start + trimmed
        end = start + size
    return end


def past_retention(connection: apsw.Connection, head: Head, end: int, received_before_us: int) -> int:
    """Up to which position, at most `end`, bodies are older than that time; from `head.trimmed` on, oldest first."""
    upto = head.trimmed
    for seq, header in head.table(connection).headers(upto, end - upto):
        received_us = _received_us(header)
        if received_us is not None and received_us >= received_before_us:
            break
        upto = seq + 1
    return upto


def delete_bodies(connection: apsw.Connection, head: Head, end: int) -> None:
    """Delete the bodies from `head.trimmed` to `end`, within the caller's transaction."""
    connection.execute(
        f"DELETE FROM body WHERE id IN (SELECT header.id FROM {ROWS} WHERE {AT_PLACES})",  # noqa: S608  # constants
        (head.run, head.start + head.trimmed, head.start + end),
    )


def _received_us(header: bytes) -> int | None:
    """When a record came; None where its header is damaged: its body then goes with its neighbours'."""
    try:
        return decode(header).received_us
    except SyncError:
        return None


def _said_bytes(header: bytes) -> int:
    try:
        return decode(header).body_bytes
    except SyncError:
        return 0
