"""What can go wrong with records, logs and the sync, and whose fault it is."""

from typing import ClassVar, Literal

Fault = Literal["source", "site", "node", "centre", "link"]


class SyncError(Exception):
    """A failure of the sync room: every subclass carries its catalogue entry."""

    code: ClassVar[str] = "SYN-00"
    fault: ClassVar[Fault] = "node"
    reply: ClassVar[str] = "none"
    hint: ClassVar[str] = "Restart the node; if it comes back, send the support bundle to the centre."
    retryable: ClassVar[bool] = False


class NotARecord(SyncError):
    """A header or particulars that are not what docs/wire.md says."""

    code = "SYN-01"
    hint = "A stored record does not decode. Run the doctor; the record is kept as it is."


class NotANote(SyncError):
    """Bytes that are not a signed note (C2SP signed-note) or not a checkpoint."""

    code = "SYN-02"
    fault = "centre"
    hint = (
        "The other side sent a checkpoint that cannot be read. Is something between node and gateway rewriting answers?"
    )


class BadSignature(SyncError):
    """A note, cosignature or certificate whose signature does not verify."""

    code = "SYN-03"
    fault = "centre"
    hint = "A signature does not match its key. Check that node and gateway have certificates of the same authority."


class BadCertificate(SyncError):
    """A certificate that does not chain to the authority, has expired, is revoked, or names somebody else."""

    code = "SYN-04"
    fault = "site"
    hint = "Renew the certificate, or import the right authority."


class BadBatch(SyncError):
    """A batch that does not decode, or whose records do not give the root its checkpoint states."""

    code = "SYN-05"
    reply = "422"
    hint = "The gateway could not read a batch. The node sends smaller ones by itself; if it goes on, call the centre."


class BadUpload(SyncError):
    """An upload that a batch names is not there, or holds other bytes: it is forgotten, the node sends it anew."""

    code = "SYN-42"
    reply = "422"
    hint = (
        "A large body did not arrive as it was sent. The node sends it again by itself; if it goes on, call the centre."
    )


class LogBroken(SyncError):
    """The outbox does not verify: head row, frontier, checkpoint or a record's hash differ."""

    code = "SYN-06"
    hint = "The disk gave back something else than was written. Intake of this stream stops; do not delete anything, call the centre."


class NoRoom(SyncError):
    """The outbox has no room for another record, noticed before the commit: nothing was stored."""

    code = "SYN-07"
    fault = "site"
    reply = "AR"
    hint = "The disk or the quota is full. Restore the link so that the queue drains, or enlarge the quota."
    retryable = True


class CommitUnknown(SyncError):
    """A COMMIT or fsync failed: whether the group is stored is unknown, so nothing is answered and the process ends."""

    code = "SYN-08"
    hint = "The disk failed while storing. The node restarts and verifies; if it comes back, replace the card or disk."


class UnsafeStore(SyncError):
    """SQLite here would not keep what is acknowledged: a library with the WAL-reset bug, or synchronous is not FULL."""

    code = "SYN-09"
    hint = "This SQLite is not safe to acknowledge on. Reinstall the node's package."


class BadEvidence(SyncError):
    """An evidence file in which something does not verify; the text names the step."""

    code = "SYN-10"
    hint = "The file was changed, or belongs to another authority. Ask the centre for it again."


class NotAName(SyncError):
    """A node, stream or gateway name outside [a-z0-9-], or an epoch or tag that is none."""

    code = "SYN-11"
    fault = "site"
    hint = "Names are lower-case letters, digits and hyphens, at most 63 of them."


class BadOpening(SyncError):
    """An opening statement that does not decode, does not verify, or speaks of another stream."""

    code = "SYN-12"
    fault = "centre"
    reply = "422"
    hint = "The statement that opens a further epoch of a stream cannot be read. Call the centre; the node keeps everything."


class BadRelease(SyncError):
    """A release that does not decode, or is not in its form."""

    code = "SYN-13"
    fault = "centre"
    reply = "422"
    hint = (
        "What the operator signed cannot be read. Sign it again with `wasl release`; until then the records stay held."
    )


class UnknownDictionary(SyncError):
    """A batch compressed with a dictionary that is not held here: it is sent again without one."""

    code = "SYN-40"
    fault = "centre"
    reply = "422"
    hint = "The gateway lacks a dictionary; the node sends without it by itself, with more bytes. Bring the gateway up to date."
    retryable = True


class BadDictionary(SyncError):
    """A dictionary that is too long, is not in zstd's format, or is not the one that its name says."""

    code = "SYN-41"
    hint = "A compression dictionary was damaged. Batches go without it; reinstall the package."


class EpochNeeded(SyncError):
    """A log that cannot be continued under its tree: leaves are gone, or do not give the root that was signed."""

    code = "SYN-14"
    hint = "A stream is damaged beyond repair of its present epoch. Nothing was changed; keep the data folder and call the centre for a new epoch."


class KeyAbsent(SyncError):
    """A log key that signed a log of this outbox, or has still to sign part of it, is not among the configured ones."""

    code = "SYN-15"
    fault = "site"
    hint = (
        "Another log key has signed here than those configured. Put it and its certificate back under [[keys.previous]],"
        " start, and take it out only when `wasl status` says so. Nothing was changed or lost."
    )


class WrongKey(SyncError):
    """A signature by a key that is not the one in force for this log: a change of the key is not covered, or the old one signs after it."""

    code = "SYN-16"
    fault = "centre"
    reply = "422"
    hint = "Something is signed with another log key than the one in force. The node keeps everything; call the centre."


class KeyFollowed(SyncError):
    """The configured log key is one that another has followed in a stream already: no gateway would ever take it again."""

    code = "SYN-17"
    fault = "site"
    hint = (
        "Another log key has followed the configured one here, and it never counts again. Put the later key and its certificate back as"
        " `log_key`, or make a new one with `wasl pki log-key`. Nothing was changed or lost."
    )


class BadStick(SyncError):
    """A stick whose manifest, batches or receipts are worn, forged, or somebody else's; the text says which and why."""

    code = "SYN-43"
    fault = "site"
    hint = (
        "Nothing was taken from what is wrong on the stick, and nothing was deleted. Export again onto another stick."
    )


class BadSeal(SyncError):
    """A sealed file that does not open: it was changed, cut short, moved, or is not sealed to this key."""

    code = "SYN-44"
    fault = "site"
    hint = "A sealed file on the stick was changed, cut short, or put in another's place. Nothing of it was taken: export again."


class UnknownSealKey(SyncError):
    """A stick is sealed to a key that this gateway does not hold."""

    code = "SYN-45"
    fault = "centre"
    hint = "This gateway lacks the key that the stick is sealed to. Name it in its configuration, or renew the node's seal certificate and export again."


class BadAnswer(SyncError):
    """A gateway's answer on a stick that does not decode, does not verify, or speaks of another stream."""

    code = "SYN-46"
    fault = "site"
    hint = "What the stick says of the centre was changed or belongs to another node. Nothing was done on its word: import the stick at the centre again."


class CursorLost(SyncError):
    """The row that says where a destination stands is not as it was written: a failing disk."""

    code = "DST-17"
    fault = "site"
    hint = "The disk gave back another position for this destination. It stands still: say where it goes on, with `wasl destination replay --from`."


class CursorMoved(SyncError):
    """A person moved a destination while it was about to move itself."""

    code = "DST-18"
    hint = "The destination moved at the same moment. Look where it stands, and order again."
    retryable = True


class ParkedFull(SyncError):
    """A destination has as many parked messages as are kept: it waits, since none may be forgotten."""

    code = "DST-14"
    fault = "site"
    hint = "This destination has as many parked messages as are kept, and waits. Correct the cause, then replay or dismiss them."


ALARMS: dict[str, tuple[Fault, str]] = {
    "SYN-20": (
        "centre",
        "Node and gateway hold different records at one position: a copy or a restored backup. The stream goes on, held by the centre until released.",
    ),
    "SYN-21": (
        "centre",
        "The gateway holds more than this node: it was restored or copied. The stream goes on, held by the centre until a person releases it.",
    ),
    "SYN-22": (
        "centre",
        "The gateway knows this stream under another epoch: the node was set up anew, restored or copied. It goes on, held until released.",
    ),
    "SYN-23": (
        "centre",
        "The centre holds this node's records back until a person releases them: it saw signs of a copy or a restored backup.",
    ),
    "SYN-24": ("centre", "The gateway does not take this stream. Ask the centre to allow it."),
    "SYN-25": (
        "centre",
        "The gateway had confirmed more than it holds now: it was restored. The node sends again what is missing.",
    ),
    "SYN-26": (
        "centre",
        "A receipt does not verify: it is not from the gateway we trust, or speaks of other records. Nothing was deleted.",
    ),
    "SYN-27": (
        "site",
        "A newer start of this node was admitted: another copy is running. Stop one of them, then restart this node.",
    ),
    "SYN-28": (
        "centre",
        "The centre has revoked this node's certificate. Messages are kept here; ask the centre for a new certificate.",
    ),
    "SYN-29": (
        "centre",
        "The gateway could not take one record; it was sent without its body, or stands still. Call the centre.",
    ),
    "SYN-31": (
        "centre",
        "Node and gateway cannot agree on this stream though they compared it. It stands still, intake goes on, nothing is lost; call the centre.",
    ),
    "SYN-32": (
        "centre",
        "The gateway does not accept the log key that signs here, or the change to it. Intake goes on, nothing is lost; call the centre.",
    ),
    "SYN-33": (
        "centre",
        "The gateway holds this stream under an earlier log key of this node: somebody has that key. It goes on, held until released; revoke that key.",
    ),
    "SYN-30": (
        "node",
        "A stored record no longer verifies: the disk is failing. It is sent as damaged; replace the card or disk.",
    ),
}
"""Alarms that the sync raises without an exception: code, whose fault, what to do."""
