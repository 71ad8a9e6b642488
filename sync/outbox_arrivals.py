"""Repeats: whether a message that comes has come before, by what the outbox still holds of the first one.

The body of a record may be trimmed while its sender can still repeat it. Its salt and particulars (control id, peer, path) are then kept
a while longer: with them the permanent commitment says whether a body is the one that was there. Of the body itself nothing is left to read.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apsw

from sync.errors import SyncError
from sync.header import COMMITMENT, CONTROL_ID, VERDICT, decode_fields, decode_particulars, feed_of
from sync.outbox_heads import Head
from sync.outbox_segments import AT_PLACES, ROWS
from sync.record import SALT_BYTES, Draft
from sync.repair import commitment_to
from sync.store import BROKEN


class Place(NamedTuple):
    """Where a record stands."""

    stream: str
    epoch: int
    seq: int


def is_same(one: Draft, other: Draft) -> bool:
    """Tell whether two drafts of one group are the same message."""
    return (one.body, one.verdict, one.common) == (other.body, other.verdict, other.common)


def repeat_key(feed: str, control_id: str) -> bytes:
    """What two arrivals of one message have in common, besides their bytes. An empty control id never repeats."""
    return f"{feed}\0{control_id}".encode() if control_id else b""


def place_of_same(connection: apsw.Connection, row: int, draft: Draft, heads: Iterable[Head]) -> Place | None:
    """Where this row's record stands, if the draft is the same message; None where it is not, or where that cannot be told any more."""
    try:
        found: Any = connection.execute(
            "SELECT log, seq, header, body.body, coalesce(body.salt, arrival.salt), coalesce(body.particulars, arrival.particulars) FROM header"
            " LEFT JOIN body ON body.id = header.id LEFT JOIN arrival ON arrival.id = header.id WHERE header.id = ?"
            # row and segment have to agree on where it stands
            " AND header.id - header.seq ="
            " (SELECT shift FROM segment WHERE run = header.log AND first <= header.seq ORDER BY first DESC LIMIT 1)",
            (row,),
        ).fetchone()
        if found is None:
            return None
        run, seq, header, body, salt, particulars = found
        # its position is that in the epoch whose window it lies in
        head = next((each for each in heads if each.run == run and each.start <= seq < each.end), None)
        fields = decode_fields(header or b"")
        # what is there of it must be what this header commits to, and the body, if it is there, whole
        same = body in {None, draft.body} and fields.get(COMMITMENT) == commitment_to(salt, particulars, draft.body)
    except (SyncError, *BROKEN):
        return None  # a damaged record is no proof that this message is stored; a disk that fails just now is no damage
    if head is None or not same or fields.get(VERDICT) != draft.verdict or not header[1:].startswith(draft.common[1:]):
        return None  # an incomplete frame of the same bytes is not the message
    return Place(head.origin.stream, head.origin.epoch, seq - head.start)


def remembered(connection: apsw.Connection, head: Head, end: int, since: int) -> list[tuple[int, bytes, bytes]]:
    """Row, salt and particulars of the bodies that are about to be trimmed, from row `since` on: what is left of them to know a repeat by.

    Nothing of a row in which they are none any more; of no row where a page cannot be read.
    """
    try:
        found: Any = connection.execute(
            f"SELECT id, salt, particulars FROM {ROWS} JOIN body USING (id) WHERE {AT_PLACES} AND id >= ?4"  # noqa: S608  # constants
            # a flipped bit makes a text of one, which the table does not take, or gives it another length
            " AND typeof(salt) = 'blob' AND length(salt) = ?5 AND typeof(particulars) = 'blob'",
            (head.run, head.start + head.trimmed, head.start + end, since, SALT_BYTES),
        )
        return list(found)
    except (*BROKEN, apsw.IOError):  # at each start it would be found again
        return []


def keep_arrivals(connection: apsw.Connection, rows: Sequence[tuple[int, bytes, bytes]], since: int) -> None:
    """Keep these, and forget those before row `since`. After the bodies are deleted: a full disk has no other pages than theirs."""
    connection.execute("DELETE FROM arrival WHERE id < ?", (since,))
    connection.executemany("INSERT OR REPLACE INTO arrival (id, salt, particulars) VALUES (?, ?, ?)", rows)


def arrivals(connection: apsw.Connection, first: int, end: int) -> Iterator[tuple[bytes, int]]:
    """Repeat keys and rows of the records in these rows that can repeat, oldest first."""
    rows: Any = connection.execute(
        "SELECT header.id, header, coalesce(body.particulars, arrival.particulars) FROM header LEFT JOIN body ON body.id = header.id"
        " LEFT JOIN arrival ON arrival.id = header.id WHERE header.id >= ? AND header.id < ? ORDER BY header.id",
        (first, end),
    )
    for row, header, particulars in rows:
        try:
            key = repeat_key(feed_of(header or b""), decode_particulars(particulars or b"").get(CONTROL_ID, ""))
        except (SyncError, TypeError):
            continue  # a damaged record repeats nothing
        if key:
            yield key, row
