"""What came by hand, inside the writer's transaction: for a node, or a stream of it, that no session has told us of yet."""

from gateway.errors import TooManyStreams
from gateway.ledger import EpochCall, PutCall
from gateway.ledger_keys import LOG, Brought
from gateway.ledger_rows import Rows
from sync.errors import BadOpening
from sync.held import HeldLog
from sync.log import Frontier
from sync.names import Origin
from sync.opening import read_opening
from sync.receiver import Admit, Admitted, OpenLog
from sync.session import LANES

# no boot and no fence: the node's first session still has none either, and so it continues this and is not taken for a copy
NEVER = Admitted(boot="", fence="", earlier=frozenset(), held=False)

Found = tuple[int, HeldLog]


def judged_as(rows: Rows, call: PutCall, known: Admitted | None, found: Found | None) -> tuple[Admitted, Found | None]:
    """What the batch is judged against: the log it names even where that is not the newest, and an empty one where a first epoch has none yet.

    A log after which a later one was opened still grows by hand: its records may be on this stick alone. They are always held.
    """
    batch = call.batch
    origin = Origin(call.node, call.stream, batch.epoch, batch.tag)
    if found is None and batch.epoch == 1:
        found = (0, HeldLog(origin=origin, frontier=Frontier(), note=b""))
    elif found is not None and found[1].origin != origin:
        found = rows.log_of(origin) or found
    return known or NEVER, found


def brought_by(call: PutCall | EpochCall) -> tuple[Brought, ...]:
    """The certificates on the stick; none where the call came over the link."""
    return (Brought(call.log_certificate, current=True), *call.earlier) if call.log_certificate else ()


def hold_if_late(rows: Rows, origin: Origin) -> bool:
    """Whether a later epoch of the stream was opened already; then the node is held."""
    newest = rows.head(origin.node, origin.stream)
    late = newest is not None and newest[1].origin.epoch > origin.epoch
    if late:
        rows.hold_node(origin.node)
    return late


def settle(rows: Rows, call: PutCall, origin: Origin, now_us: int) -> int:
    """The log's row, made now if need be: only after the signature was found good, or a forged stick could name a log's tag. Raises TooManyStreams."""
    introduce(rows, call, now_us)
    if rows.head(call.node, call.stream) is None:
        lane = call.batch.lane if call.batch.lane in LANES else "routine"
        if not rows.open_log(OpenLog(origin, lane)):
            raise TooManyStreams(origin.stream)
    found = rows.log_of(origin)
    if found is None:
        raise TooManyStreams(origin.stream)
    return found[0]


def introduce(rows: Rows, call: PutCall | EpochCall, now_us: int) -> None:
    """Keep the node's certificates, and the node where no session ever did."""
    certificate = rows.keys.keep_certificate(call.node, LOG, call.log_certificate, now_us)
    for each in call.earlier:
        rows.keys.keep_certificate(call.node, LOG, each.certificate, now_us)
    if rows.admitted(call.node, "") is None:
        rows.admit(call.node, Admit(NEVER.boot, NEVER.fence, hold=False), certificate, now_us)


def opened_by(rows: Rows, statement: bytes) -> HeldLog | None:
    """The log that this very statement opened, if one was; the statement is not verified here."""
    try:
        found = rows.log_of(read_opening(statement).opened)
    except BadOpening:
        return None
    return found[1] if found is not None and rows.opening(found[0]) == statement else None
