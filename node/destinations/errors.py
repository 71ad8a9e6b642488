"""What can go wrong between the node and the site's own systems: reasons why a message is parked, and why a destination waits."""

from typing import Final

from node.errors import Fault, NodeError

REFUSED = "DST-01"
NOT_CONVERTED = "DST-02"
TRIMMED = "DST-03"  # also of sync.outbox_parked, which tells such rows apart
DAMAGED = "DST-04"
NOT_SENDABLE = "DST-05"
STANDING = "DST-06"
SKIPPED = "DST-07"
TOO_LONG = "DST-08"
UNREACHABLE = "DST-10"
LATER = "DST-11"
NO_ANSWER = "DST-12"
STOPPED = "DST-13"
FULL = "DST-14"  # sync.errors.ParkedFull
FROZEN = "DST-15"
FOLDER = "DST-16"
LOST = "DST-17"  # sync.errors.CursorLost
TLS = "DST-20"
HTTP = "DST-21"
CHANGED = "DST-22"  # also of sync.outbox_parked, which tells such rows apart


class NoSuchDestination(NodeError):
    """An order names a destination, stream or message that is not there."""

    code = "DST-19"
    fault = "site"
    hint = "There is no such destination, stream or parked message. `wasl destination list` and `wasl destination parked NAME` show what there is."


ALARMS: Final[dict[str, tuple[Fault, str]]] = {
    REFUSED: (
        "site",
        "The receiving system refused this message. Ask its vendor what it lacks; when that is corrected, replay it.",
    ),
    NOT_CONVERTED: (
        "site",
        "This message is not in the form that the destination takes, and could not be converted: the word beside says why. It goes to the centre as always.",
    ),
    TRIMMED: (
        "site",
        "The disk was short of room, and messages that a destination had not taken yet lost their bodies here. The centre has them.",
    ),
    DAMAGED: ("node", "This record no longer verifies, so it was not sent on. Replace the card or disk."),
    NOT_SENDABLE: (
        "source",
        "This message holds bytes that the destination's protocol cannot carry, or has no usable header.",
    ),
    STANDING: (
        "site",
        "A destination did not take some messages: they are parked. `wasl destination parked` shows why; correct the cause and replay them.",
    ),
    SKIPPED: ("site", "A person had the destination pass over this message. It can still be replayed."),
    TOO_LONG: (
        "site",
        "The FHIR server's copy of the resource named beside is too long to see whether it is newer: nothing was written over it. Compare both at the server.",
    ),
    UNREACHABLE: (
        "site",
        "A system of this site cannot be reached. Its messages wait here, in order. Check its address, cable and service.",
    ),
    LATER: (
        "site",
        "A system of this site answers that it takes nothing now. Its messages wait here, in order. Look at that system, or at the node's right to send to it.",
    ),
    NO_ANSWER: (
        "site",
        "A system of this site does not acknowledge what it is sent, or acknowledges something else. The same message is sent again until it does.",
    ),
    STOPPED: (
        "site",
        "A system of this site refused a message, and its stream waits, as configured. Correct the cause, or skip the message.",
    ),
    FROZEN: (
        "site",
        "A system of this site counts other sequence numbers than the node. Compare both, then let one side start anew.",
    ),
    FOLDER: (
        "site",
        "The folder of a destination is full, missing or cannot be written. Look whether the system that empties it is running.",
    ),
    TLS: (
        "site",
        "The TLS connection to a system of this site does not come about. Check both certificates, their dates, and the clock.",
    ),
    HTTP: (
        "site",
        "A system of this site answers with what is no answer to a delivery, such as a redirection. Check the destination's URL.",
    ),
    CHANGED: (
        "node",
        "The disk changed this entry of a parked message, so it is not sent again. Forget it (`wasl destination skip`), and replace the card or disk.",
    ),
}
"""Reasons and alarms that are raised without an exception: code, whose fault, what to do."""
