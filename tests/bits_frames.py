"""Frames of ASTM in an outbox whose bits flip: what an instrument was told we have, and what the start of its feed makes of it, transfer by transfer."""

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import NamedTuple

from node.feeds.astm_leftovers import leftover
from node.feeds.astm_sessions import Session, Transfer
from sync.errors import CommitUnknown, LogBroken
from sync.outbox import Outbox
from sync.outbox_frames import Frame
from sync.store import UNREADABLE
from tests.bits_judge import Violation
from tests.sim_realm import LOG_SIGNER

INSTRUMENT, PEER_OF_IT = "xn", "192.0.2.9"
TRANSFERS = {
    f"{INSTRUMENT}/b/1": (9, 4),
    f"{INSTRUMENT}/b/2": (3, 0),
    f"{INSTRUMENT}/b/3": (1, 0),
}  # frames, and how many of them are in the log


class Owed(NamedTuple):
    """The frames of a transfer, of which the first `settled` are in the log."""

    texts: list[bytes]
    settled: int

    def lacks(self, text: bytes) -> int | None:
        """How many of the frames behind those that are settled are not in the text, one at most; None where it is something else.

        All frames may be there, also those that are settled, where the fact beside them was lost.
        """
        for first in (self.settled, 0):
            rest = self.texts[first:]
            if text == b"".join(rest):
                return 0
            without = (b"".join(rest[:at] + rest[at + 1 :]) for at in range(len(rest)))
            if (at := next((n for n, each in enumerate(without, first) if each == text), None)) is not None:
                return int(at >= self.settled)
        return None


class OpenTransfers:
    """Three transfers that were open at a crash."""

    def __init__(self) -> None:
        self.owed: dict[str, Owed] = {}

    def lay(self, made: Outbox, dice: Random) -> None:
        """Write them."""
        session = Session(f"astm:{INSTRUMENT}:{PEER_OF_IT}")
        for transfer, (count, settled) in TRANSFERS.items():
            texts, at = [b"R|%d|" % n + dice.randbytes(dice.choice((30, 200))) + b"\r" for n in range(count)], 0
            for text in texts:
                made.frames.write(kept=[Frame(transfer, at, INSTRUMENT, PEER_OF_IT, 1, text)])
                at += len(text)
            self.owed[transfer] = Owed(texts, settled)
            if settled:
                session.transfers[transfer] = Transfer(len(b"".join(texts[:settled])), ["0" * 32])
        made.frames.write(facts=[(session.name, session.encode())])

    def recover(self, path: Path, kind: str, counts: Counter[str]) -> None:
        """Start as the feed of the instrument does: what it was told we have becomes incomplete records, each whole or told as damaged.

        A frame whose row does not say any more of which transfer it is stands under another name, and is told there. Raises Violation.
        """
        try:
            found = dict(_read(path))
        except (LogBroken, CommitUnknown, *UNREADABLE):
            counts[f"{kind} frames told"] += 1  # the start says so and ends: nothing is forgotten
            return
        strangers = sum(not is_whole for transfer, (_, is_whole) in found.items() if transfer not in self.owed)
        for transfer, owed in self.owed.items():
            text, is_whole = found.get(transfer, (b"", True))
            if kind == "wal":  # SQLite drops what no longer fits its checksum, and all after it, as after a power cut
                if is_whole and text not in b"".join(owed.texts):
                    raise Violation(f"{transfer}: of an open transfer something else is recorded")
                continue
            lacks = owed.lacks(text)
            if lacks is None:
                raise Violation(f"{transfer}: of an open transfer something else is recorded")
            if lacks and is_whole:
                strangers -= 1
                if strangers < 0:
                    raise Violation(
                        f"{transfer}: a frame that was acknowledged is gone, and nobody is told of this one"
                    )
            counts[f"{kind} frames lost and told"] += lacks
            counts[f"{kind} frames recorded twice"] += len(text) > len(b"".join(owed.texts[owed.settled :]))
        counts[f"{kind} frames told"] += any(not is_whole for _, is_whole in found.values())


def _read(path: Path) -> Iterator[tuple[str, tuple[bytes, bool]]]:
    """What a start finds of each transfer, and whether it is whole."""
    with closing(Outbox(path, signer=LOG_SIGNER, random=Random(1).randbytes)) as made:
        made.frames.check()
        facts = made.frames.facts(f"astm:{INSTRUMENT}:")
        sessions = {name: Session.read(name, value) for name, value in facts.items()}
        for transfer, rows in itertools.groupby(made.frames.of_feed(INSTRUMENT), key=lambda frame: frame.transfer):
            frames = list(rows)
            session = sessions.get(f"astm:{INSTRUMENT}:{frames[0].peer}") or Session("")
            yield transfer, leftover(frames, session.transfers.get(transfer, Transfer()).end)
