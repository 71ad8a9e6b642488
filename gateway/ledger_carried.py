"""Batches that came by hand, inside the writer's transaction: for a node, or a stream of it, that no session has told us of yet."""

from gateway.errors import TooManyStreams
from gateway.ledger import PutCall
from gateway.ledger_keys import LOG, Brought
from gateway.ledger_rows import Rows
from sync.log import Frontier
from sync.names import Origin
from sync.receiver import Admit, Admitted, HeldLog, OpenLog
from sync.session import LANES

# no boot and no fence: the node's first session still has none either, and so it continues this and is not taken for a copy
NEVER = Admitted(boot="", fence="", earlier=frozenset(), held=False)

Found = tuple[int, HeldLog]


def judged_as(call: PutCall, known: Admitted | None, found: Found | None) -> tuple[Admitted, Found | None]:
    """What the batch is judged against: an empty log where a first epoch has none yet."""
    if found is None and call.batch.epoch == 1:
        origin = Origin(call.node, call.stream, 1, call.batch.tag)
        found = (0, HeldLog(origin=origin, frontier=Frontier(), note=b""))
    return known or NEVER, found


def brought_by(call: PutCall) -> tuple[Brought, ...]:
    """The certificates on the stick; none where the batch came over the link."""
    return (Brought(call.log_certificate, current=True), *call.earlier) if call.log_certificate else ()


def settle(rows: Rows, call: PutCall, origin: Origin, now_us: int) -> int:
    """The log's row, made now if need be: only after the signature was found good, or a forged stick could name a log's tag. Raises TooManyStreams."""
    certificate = rows.keys.keep_certificate(call.node, LOG, call.log_certificate, now_us)
    for each in call.earlier:
        rows.keys.keep_certificate(call.node, LOG, each.certificate, now_us)
    if rows.admitted(call.node, "") is None:
        rows.admit(call.node, Admit(NEVER.boot, NEVER.fence, hold=False), certificate, now_us)
    found = rows.head(call.node, call.stream)
    if found is None:
        lane = call.batch.lane if call.batch.lane in LANES else "routine"
        if not rows.open_log(OpenLog(origin, lane)):
            raise TooManyStreams(origin.stream)
        found = rows.head(call.node, call.stream)
    if found is None:
        raise TooManyStreams(origin.stream)
    return found[0]
