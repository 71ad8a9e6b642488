"""What `wasl export` says of a stick, a line each."""

from collections.abc import Iterator

from node.stick.back import Home
from node.stick.export import Written

NAMED_MAX = 20  # positions in a line: more than these, and the disk is the news


def home_lines(home: Home) -> Iterator[str]:
    """What came home."""
    for each in home.taken:
        yield f"receipt: {each.origin.stream} up to {each.size} records" + _epoch(each.origin.epoch)
    for stream, code in home.refused.items():
        yield f"the centre did not take {stream} any further: {code}"
    for stream in home.opened:
        yield f"{stream}: the centre holds something else; it goes on under a further epoch, which this export carries"
    for stream in home.waiting:
        yield f"{stream}: the centre holds something else. Start the node's core anew, then export again: it then goes on under a further epoch"


def written_lines(written: Written) -> Iterator[str]:
    """What was written."""
    yield f"{written.records} records in {written.batches} batches are on the stick, {written.fresh} batches are new"
    for origin, places in written.damaged.items():
        first, more = ", ".join(map(str, places[:NAMED_MAX])), len(places) - NAMED_MAX
        tail = f" and {more} more" if more > 0 else ""
        yield f"DAMAGED [SYN-30]: {origin.stream}{_epoch(origin.epoch)}: {first}{tail}: these records no longer verify and travel without what is damaged"
    for stream, error in written.stopped.items():
        yield f"NOT WHOLE [{error.code}]: {stream} goes no further: {error}"
    if written.sealed:
        yield "sealed: only the gateway can read them"
    else:
        yield "NOT SEALED: whoever holds this stick can read the messages. Name the gateway's seal certificate in the configuration (gateway.seal_certificate)"


def _epoch(epoch: int) -> str:
    return "" if epoch == 1 else f" of epoch {epoch}"
