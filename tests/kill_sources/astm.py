"""ASTM: instruments whose every frame is acknowledged. Of a transfer that was cut off just the frames that were acknowledged are in a record marked
incomplete: none less; and one more only where it was on its way, and its ACK with it."""

import socket
from collections import deque
from dataclasses import dataclass, field

from hl7.devices.astm_frames import encode_all
from tests.astm_rig import ENQ, EOT, AstmFeed, records, result
from tests.kill_rig import Address, Caller, LoopError, Row, Source
from tests.kill_sources.words import ANSWER_S_MAX, exchange

FRAME_OVERHEAD = 7  # STX, number, end, two digits, CR, LF
ASTM_NAMES = ("سلمى^تجريبية", "Test^Patient", "خالد^تجريبي")


@dataclass(slots=True)
class Transfer:
    """One attempt at a message, in frames of these texts: how many were sent, how many acknowledged, and whether it is over."""

    message: bytes
    texts: list[bytes]
    sent: int = 0
    taken: int = 0
    is_over: bool = False

    def leaves(self, *, is_known: bool) -> set[tuple[bytes, bool, bool]]:
        """What may be at the gateway of it: (body, is it whole, is its message known then). No body: nothing is.

        `is_known`: the message is there of an attempt before, whose sender did not know it.
        """
        found = set()
        for count in range(self.taken, self.sent + 1):  # the frame that was under way, with its ACK or without
            if count == len(self.texts):
                found.add((b"" if is_known else self.message, True, True))
            else:
                found.add((b"".join(self.texts[:count]), False, is_known))
        return found


@dataclass(slots=True)
class Ledger:
    """The transfers of one instrument in their order, and what the gateway has of them: both, until they are told apart from no other.

    A state is how many transfers are accounted for, and whether the message of the last of them is there. What is at the gateway may fit
    several, so all are followed.
    """

    transfers: deque[Transfer] = field(default_factory=deque)
    states: set[tuple[int, bool]] = field(default_factory=lambda: {(0, False)})

    def take(self, body: bytes, *, is_whole: bool) -> bool | None:
        """The next record of this instrument: whether it fits; None where what it belongs to is not over yet."""
        states = self._skipped()
        found = {
            (at + 1, known)
            for at, is_known in states
            if at < len(self.transfers) and self.transfers[at].is_over
            for left, whole, known in self._leaves(at, is_known=is_known)
            if (left, whole) == (body, is_whole) and left
        }
        if not found:
            is_open = any(at < len(self.transfers) and not self.transfers[at].is_over for at, _ in states)
            return None if is_open else False
        self.states = found
        self._forget()
        return True

    def end(self) -> bool:
        """Whether nothing more need come."""
        return any(at == len(self.transfers) for at, _ in self._skipped())

    def _leaves(self, at: int, *, is_known: bool) -> set[tuple[bytes, bool, bool]]:
        is_new = at > 0 and self.transfers[at].message != self.transfers[at - 1].message
        return self.transfers[at].leaves(is_known=is_known and not is_new)

    def _skipped(self) -> set[tuple[int, bool]]:
        """The states that are reached where transfers left nothing."""
        found, waiting = set(self.states), list(self.states)
        while waiting:
            at, is_known = waiting.pop()
            if at == len(self.transfers) or not self.transfers[at].is_over:
                continue
            more = {(at + 1, known) for left, _, known in self._leaves(at, is_known=is_known) if not left} - found
            found |= more
            waiting += more
        return found

    def _forget(self) -> None:
        """What all states have behind them; the last of it says what message came before."""
        behind = min(at for at, _ in self.states) - 1
        for _ in range(behind):
            self.transfers.popleft()
        if behind > 0:
            self.states = {(at - behind, known) for at, known in self.states}


class Analyzer(Caller):
    """One instrument, from an address of its own: a whole transfer again, where its last ACK was not read."""

    def __init__(self, number: int, seed: str, address: Address) -> None:
        super().__init__(number, seed, address)
        self.ledger = Ledger()
        self.cut = 0
        self._found = deque[tuple[bytes, bool]]()

    def make(self, number: int) -> bytes:
        data = result(number, name=self.dice.choice(ASTM_NAMES), tests=self.dice.randint(1, 4))
        return data.replace(b"H|\\^&|||", b"H|\\^&|%d-%d||" % (self.number, number), 1)  # H-3: in the first frame

    def hand_over(self, data: bytes) -> bool:
        """Whether its last frame was acknowledged."""
        frames = encode_all(records(data), text_bytes_max=self.dice.choice((60, 240)))
        transfer = Transfer(data, [frame[2 : 2 - FRAME_OVERHEAD] for frame in frames])
        try:
            with socket.create_connection(self.address, 5, (f"127.0.0.{10 + self.number}", 0)) as peer:
                peer.settimeout(ANSWER_S_MAX)
                exchange(peer, ENQ)
                self.ledger.transfers.append(transfer)
                for frame in frames:
                    transfer.sent += 1
                    exchange(peer, frame)
                    transfer.taken += 1
                if self.dice.random() < 0.8:  # some are switched off: what comes next may be a repetition, and is not
                    peer.sendall(EOT)
        except OSError:
            self.cut += 0 < transfer.taken < len(frames)
            return transfer.taken == len(frames)
        finally:
            transfer.is_over = True
        return True

    def keep(self, data: bytes, tries: int) -> None:
        self.acknowledged += 1

    def record(self, body: bytes, *, is_whole: bool) -> None:
        """The gateway holds this of it, after what it held before."""
        self._found.append((body, is_whole))

    def compare(self, *, is_end: bool) -> None:
        while self._found:
            body, is_whole = self._found[0]
            match self.ledger.take(body, is_whole=is_whole):
                case None:
                    break
                case False:
                    raise LoopError(
                        f"{self}: {body!r:.200} ({'whole' if is_whole else 'incomplete'}) is not what was acknowledged of the next transfers:"
                        f" {[(each.taken, each.sent, len(each.texts)) for each in list(self.ledger.transfers)[:4]]}"
                    )
            self._found.popleft()
        if is_end and (self._found or not self.ledger.end()):
            raise LoopError(f"{self}: acknowledged frames are in no record; {len(self._found)} records left")


class Astm(Source):
    name = "astm"

    def __init__(self, seed: str) -> None:
        feed = AstmFeed(self.name)
        super().__init__(feed, [Analyzer(n, seed, feed.address) for n in range(4)])
        self.incomplete = 0

    def take(self, row: Row) -> None:
        is_whole = row.kind == "message"
        if (row.kind, row.verdict) not in {("message", "accepted"), ("incomplete", "accepted-with-warning")}:
            raise LoopError(f"record {row.seq} is {row.kind}, {row.verdict}")
        self.there += is_whole
        self.incomplete += not is_whole
        self.peers[self.whose(row)].record(row.body, is_whole=is_whole)

    def whose(self, row: Row) -> int:
        number, mark, _ = row.control_id.partition("-")
        if not mark:
            raise LoopError(f"record {row.seq}, {row.kind}, says of no instrument that it is of it: {row.body!r:.200}")
        return int(number)

    def said(self) -> str:
        cut = sum(peer.cut for peer in self.peers)
        return f"{super().said()}; {cut} transfers cut off, {self.incomplete} incomplete records"
