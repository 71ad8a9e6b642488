"""Devices that just print: one that waits for ACK and prints again, and one that waits for nothing."""

import socket
from collections import deque
from dataclasses import dataclass, field
from functools import reduce
from operator import xor
from pathlib import Path

from node.tools.simulate_lines import Pty
from tests.kill_rig import Address, Caller, Down, LoopError, Peer, Row, Source, Taken, now_us
from tests.kill_sources.words import ANSWER_S_MAX, NAMES, exchange
from tests.serial_rig import Printer

BLOCK = 'ends = "block"\ncheck = "xor-hex"\nquiet_ms = 5000'
NOT_RUNNING = {"SER-07": 1}
# How long before a kill a gap may begin: a second (node/feeds/line_away.py), and what a machine that does other things takes to note that it heard.
EARLIER_US = 6_000_000
# A node that is killed so soon after it recorded a gap has not noted yet up to when all is told: the next gap begins where that one did. Of a machine
# that does other things; so that a note that is never renewed is found all the same, only so many gaps in a row may do so.
UNNOTED_US = 5_000_000
UNNOTED_MAX = 2


def block(number: int, of: int, name: str) -> bytes:
    """A report with its number and an exclusive-or over text and end."""
    text = f"{of};{number:07};{name};HB;12.{number % 10}".encode() + b"\x03"
    return b"\x02" + text + b"%02X\r\n" % reduce(xor, text, 0)


class Asking(Caller):
    """A device that waits for ACK, and prints again without it. After a crash between commit and ACK it is there twice (docs/devices-serial.md)."""

    def __init__(self, number: int, seed: str, address: Address) -> None:
        super().__init__(number, seed, address)
        self._line: socket.socket | None = None

    def make(self, number: int) -> bytes:
        return block(number, self.number, self.dice.choice(NAMES))

    def hand_over(self, data: bytes) -> bool:
        try:
            if self._line is None:
                self._line = socket.create_connection(self.address, 5)
                self._line.settimeout(ANSWER_S_MAX)
            exchange(self._line, data)
        except OSError:
            self.close()
            raise
        return True

    def keep(self, data: bytes, tries: int) -> None:
        self._mine.append(Taken(data.rstrip(b"\r\n"), tries - 1))
        self.acknowledged += 1

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


class Line(Source):
    name = "line"

    def __init__(self, seed: str) -> None:
        feed = Printer(self.name, lines=BLOCK + '\nanswer = "ACK"\nanswer_bad = "NAK"')
        super().__init__(feed, [Asking(n, seed, feed.address) for n in range(2)])

    def take(self, row: Row) -> None:
        if row.kind != "gap":  # of the time without a node
            super().take(row)

    def whose(self, row: Row) -> int:
        return row.body[1] - ord("0")


@dataclass(slots=True)
class Print:
    """A report on the line, from when to when in microseconds."""

    data: bytes
    began: int
    ended: int = 2**62


@dataclass(slots=True)
class Loss:
    """Reports that are not there, all that were printed between two that are: the first began after `after`, the last ended before `before`."""

    prints: list[Print]
    after: int
    before: int


@dataclass(slots=True)
class Gap:
    """A time in which the node did not hear, as its record says."""

    first: int
    last: int
    received: int


@dataclass(slots=True)
class Account:
    """What excuses a printed report that is not there: the node was killed between the two that are next to it, and a gap record covers its time.

    A gap covers a time without a node that was, and no more: it begins where the node may last have heard, ends while one runs, and the next
    begins behind it. What is accounted for is forgotten.
    """

    downs: deque[Down] = field(default_factory=deque)
    gaps: deque[Gap] = field(default_factory=deque)
    losses: list[Loss] = field(default_factory=list)
    told: int = 0  # gaps, of so many microseconds
    told_us: int = 0
    lost: int = 0
    again: int = 0  # gaps in a row that began where the one before did

    def take(self, gap: Gap) -> None:
        """A gap record more. Raises LoopError where it tells of no time without a node, or of more than that."""
        before = self.gaps[-1] if self.gaps else Gap(0, 0, 0)
        down = next((each for each in self.downs if each.after_us > before.last), None)
        if down is None or not down.started_us <= gap.last <= gap.received:
            raise LoopError(f"a gap ends at {gap.last}, recorded at {gap.received}: no node came back then ({down})")
        if any(each.after_us < gap.last < each.started_us for each in self.downs):
            raise LoopError(f"a gap ends at {gap.last}, when no node ran")
        is_again = before.received > 0 and gap.first == before.first and down.before_us - before.received < UNNOTED_US
        self.again = self.again + 1 if is_again else 0
        is_due = down.before_us - EARLIER_US <= gap.first <= down.after_us
        if not is_due and not 0 < self.again <= UNNOTED_MAX:
            raise LoopError(f"a gap begins at {gap.first}, the node was killed at {down.before_us}")
        self.gaps.append(gap)
        self.told += 1
        self.told_us += gap.last - gap.first

    def settle(self, *, oldest_us: int, is_end: bool) -> None:
        """Account for what is lost, and forget what nothing older than that needs. Raises LoopError."""
        waiting = []
        for loss in self.losses:
            if not any(loss.after <= each.after_us and each.before_us <= loss.before for each in self.downs):
                raise LoopError(f"{len(loss.prints)} reports are not there, and no node was killed: {loss.prints[:3]}")
            if all(self._is_told(each) for each in loss.prints):
                self.lost += len(loss.prints)
            elif is_end or (self.gaps and self.gaps[-1].first > loss.before):
                raise LoopError(f"no gap tells of {loss.prints[:3]} (gaps {list(self.gaps)[-4:]})")
            else:
                waiting.append(loss)
        self.losses = waiting
        oldest_us = min([oldest_us, *(loss.after for loss in waiting)])
        while len(self.gaps) > 1 and self.gaps[0].last < oldest_us:
            self.gaps.popleft()
        told_us = self.gaps[-1].last if self.gaps else 0
        while self.downs and self.downs[0].after_us <= told_us and self.downs[0].started_us < oldest_us:
            self.downs.popleft()

    def _is_told(self, printed: Print) -> bool:
        return any(gap.first <= printed.ended and printed.began <= gap.last for gap in self.gaps)


class Telling(Peer):
    """A device that prints and waits for nothing."""

    def __init__(self, number: int, seed: str, link: Path) -> None:
        super().__init__(number, seed)
        self._pty = Pty(link)
        self.printed = deque[Print]()
        self.account = Account()
        self._last = 0  # when the last report that is there began
        self.cut = 0

    def turn(self) -> None:
        data = block(self.made, 0, self.dice.choice(NAMES))
        printed = Print(data.rstrip(b"\r\n"), now_us())
        self.made += 1
        self.is_amid = True
        self.printed.append(printed)  # it may be at the gateway before its last byte's time has passed here
        self._pty.send(data)
        printed.ended = now_us()
        self.acknowledged += 1
        self.is_amid = False

    def unplug(self) -> None:
        """Take its cable away."""
        self._pty.close()

    def found(self, data: bytes) -> None:
        """This report is there, after those before."""
        self._pass(lambda printed: printed.data == data, data)

    def found_cut(self, body: bytes) -> None:
        """As much of a report is there, and marked as cut off."""
        self._pass(lambda printed: bool(body) and printed.data.startswith(body), body)
        self.cut += 1

    def _pass(self, is_it, data: bytes) -> None:
        missing = []
        while self.printed:
            printed = self.printed.popleft()
            if is_it(printed):
                if missing:
                    self.account.losses.append(Loss(missing, self._last, printed.ended))
                self._last = printed.began
                return
            missing.append(printed)
        raise LoopError(f"{data!r} is there, and was printed at another time, or never")

    def compare(self, *, is_end: bool) -> None:
        if is_end and self.printed:
            raise LoopError(f"{len(self.printed)} reports of the last node are not there: {list(self.printed)[:3]}")
        oldest = self.printed[0].began if self.printed else now_us()
        self.account.settle(oldest_us=min(oldest, self._last), is_end=is_end)


class Told(Source):
    """Nothing is acknowledged here: each report is there, once and in its order; or it is cut off, as its record says; or a gap record tells of the
    time in which it was printed."""

    name = "told"

    def __init__(self, seed: str, folder: Path) -> None:
        link = folder / "port"
        super().__init__(Printer(self.name, device=str(link), lines=BLOCK), [Telling(0, seed, link)])

    def was_down(self, down: Down) -> None:
        self.peers[0].account.downs.append(down)

    @property
    def done(self) -> int:
        return self.there

    def take(self, row: Row) -> None:
        (peer,) = self.peers
        match row.kind:
            case "gap":
                said = row.document
                if said["codes"] != NOT_RUNNING or said["count"] != 1:
                    raise LoopError(
                        f"record {row.seq} tells of {said['codes']}: nothing but kills was done to this port"
                    )
                peer.account.take(Gap(said["first_us"], said["last_us"], row.received_us))
            case "message":
                peer.found(row.body)
                self.there += 1
            case "incomplete":
                peer.found_cut(row.body)
            case kind:
                raise LoopError(f"record {row.seq} is {kind}")

    def abandon(self) -> None:
        super().abandon()
        for peer in self.peers:
            if peer.ident is not None:
                peer.join(5)
            peer.unplug()

    def said(self) -> str:
        (peer,) = self.peers
        account = peer.account
        return (
            f"{self.name}: {self.acknowledged} printed, {self.there} there, {account.lost} within gaps, {peer.cut} cut off,"
            f" {account.told} gaps of {account.told_us / 1e6:.0f} s, {self.hits} kills amid one"
        )
