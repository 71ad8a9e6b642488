"""What the kill loops have in common: a source that repeats what was not acknowledged, and the comparison of what was with what the gateway holds.

Both go on while the loop runs: what was found at the gateway is compared and forgotten, so that a loop of any length stays small.
"""

import base64
import json
import random
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, NamedTuple

from tests.node_rig import Centre, Feed

REST_S_MAX = 0.1  # between two messages of a source: some hundred a second of all, so that a busy machine keeps up
AGAIN_S = 0.05  # before what was not acknowledged is sent again: a node that starts takes half a second
PAGE = 2000  # records asked of the gateway at a time


class LoopError(Exception):
    """What the loop found: a promise is broken."""


@dataclass(frozen=True, slots=True)
class Row:
    """One record as a consumer of the gateway sees it."""

    seq: int
    kind: str
    verdict: str
    control_id: str
    body: bytes
    received_us: int

    @property
    def document(self) -> Any:
        return json.loads(self.body)


def rows_of(centre: Centre, node: str, stream: str, first: int = 0) -> Iterator[Row]:
    """The records of a stream from there on. Raises LoopError where one is missing, or an epoch was opened."""
    address = f"/v1/nodes/{node}/streams/{stream}/records?limit={PAGE}&from="
    while lines := centre.get(f"{address}{first}").data.splitlines():
        for row in map(json.loads, lines):
            if (row["epoch"], row["seq"]) != (1, first):
                raise LoopError(f"{stream} {first}: found {row['epoch']}/{row['seq']}")
            first += 1
            body, came = base64.b64decode(row["body"]), datetime.fromisoformat(row["received_at"])
            yield Row(row["seq"], row["kind"], row["verdict"], row["control_id"], body, us_of(came))


def us_of(moment: datetime) -> int:
    """Microseconds since 1970, to the last of them."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def now_us() -> int:
    """The machine's clock, which is the node's too."""
    return time.time_ns() // 1000


class Down(NamedTuple):
    """A time without a node: it was killed after `before_us` and by `after_us`, and started again at `started_us`."""

    before_us: int
    after_us: int
    started_us: int


class Taken(NamedTuple):
    """What was acknowledged. `spare`: how often more it may be at the gateway, where its source cannot help that (its page of docs/ says so)."""

    data: bytes
    spare: int = 0


class Peer(threading.Thread):
    """One sender: makes a message, hands it over until it is acknowledged, makes the next.

    `is_amid`: something was sent and is not acknowledged. `acknowledged` and `repeats` count.
    """

    def __init__(self, number: int, seed: str) -> None:
        super().__init__(daemon=True)
        self.number, self.dice = number, random.Random(f"{seed} {type(self).__name__} {number}")
        self.made = self.acknowledged = self.repeats = self.extra = 0
        self.is_amid = self.finishing = self.is_over = False
        self.fault = ""
        self._mine, self._theirs = deque[Taken](), deque[bytes]()
        self._last = Taken(b"")

    # -- sending -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Send until told to finish, and what is under way until it is acknowledged."""
        try:
            while not (self.finishing or self.is_over):
                self.turn()
                time.sleep(self.dice.random() * REST_S_MAX)
        except Exception as error:  # the loop tells of it
            self.fault = f"{type(error).__name__} {error}"
        finally:
            self.close()

    def turn(self) -> None:
        """One message, until it is acknowledged."""
        data, tries = self.make(self.made), 1
        self.made += 1
        self.is_amid = True
        while not self._is_taken(data):
            if self.is_over:
                return
            tries += 1
            self.repeats += 1
            time.sleep(AGAIN_S)
        self.is_amid = False
        self.keep(data, tries)

    def _is_taken(self, data: bytes) -> bool:
        try:
            return self.hand_over(data)
        except OSError:
            return False

    def keep(self, data: bytes, tries: int) -> None:  # for those that may be there more often
        """It is acknowledged."""
        self._mine.append(Taken(data))
        self.acknowledged += 1

    def make(self, number: int) -> bytes:
        """The next message."""
        raise NotImplementedError

    def hand_over(self, data: bytes) -> bool:
        """Send it; whether it is acknowledged. OSError: nobody knows, so it is sent again."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing more is sent."""

    # -- comparing ---------------------------------------------------------------------------------------------------

    def found(self, data: bytes) -> None:
        """The gateway holds this of it, after what it held before."""
        self._theirs.append(data)

    def compare(self, *, is_end: bool) -> None:
        """Forget what was acknowledged and is there. `is_end`: all must be. Raises LoopError."""
        while self._theirs:
            if self._last.spare and self._theirs[0] == self._last.data:
                self._last = self._last._replace(spare=self._last.spare - 1)
                self.extra += 1
            elif not self._mine:
                break
            elif self._mine[0].data == self._theirs[0]:
                self._last = self._mine.popleft()
            else:
                raise LoopError(f"{self}: acknowledged {self._mine[0].data!r:.160}, there is {self._theirs[0]!r:.160}")
            self._theirs.popleft()
        if is_end and (self._mine or self._theirs):
            raise LoopError(
                f"{self}: {len(self._mine)} acknowledged and not there, {len(self._theirs)} there and not acknowledged;"
                f" the first: {(list(self._mine)[:1] or list(self._theirs)[:1])!r:.200}"
            )

    def __str__(self) -> str:
        return f"{type(self).__name__} {self.number}"


Address = tuple[str, int]


class Caller(Peer):
    """One that calls the node at an address."""

    def __init__(self, number: int, seed: str, address: Address) -> None:
        super().__init__(number, seed)
        self.address = address


class Source:
    """One feed and those who send to it. `there`: its messages at the gateway; a run in which they are fewer than `least` proves nothing of it."""

    name: ClassVar[str]

    def __init__(self, feed: Feed, peers: list[Any]) -> None:
        self.feed, self.peers = feed, peers
        self.position = 0  # of the next record to be read at the gateway
        self.hits = 0  # kills while something was under way
        self.there = 0

    def start(self) -> None:
        for peer in self.peers:
            peer.start()

    def stir(self, dice: random.Random) -> None:
        """A node starts anew: something may be otherwise than before."""

    def was_down(self, down: Down) -> None:
        """The node was killed, and is starting."""

    @property
    def acknowledged(self) -> int:
        return sum(peer.acknowledged for peer in self.peers)

    @property
    def done(self) -> int:
        """What it has done that must be at the gateway, for the least that a run must do."""
        return self.acknowledged

    @property
    def is_behind(self) -> bool:
        """Whether it makes nothing new before what it made is compared."""
        return False

    @property
    def is_amid(self) -> bool:
        return any(peer.is_amid for peer in self.peers)

    @property
    def faults(self) -> list[str]:
        return [f"{peer}: {peer.fault}" for peer in self.peers if peer.fault]

    def finish(self) -> None:
        """Make nothing new."""
        for peer in self.peers:
            peer.finishing = True

    def join(self) -> None:
        """Wait until nothing is under way."""
        for peer in self.peers:
            peer.join(120)
            if peer.is_alive():
                raise LoopError(f"{peer} never gets its acknowledgement")

    def abandon(self) -> None:
        """End, whatever is under way."""
        for peer in self.peers:
            peer.finishing = peer.is_over = True

    def read(self, centre: Centre, node: str, *, is_end: bool = False) -> None:
        """Take over what is new at the gateway. Raises LoopError."""
        try:
            for row in rows_of(centre, node, self.feed.name, self.position):
                self.position += 1
                self.take(row)
            self.compare(is_end=is_end)
        except LoopError as error:
            raise LoopError(f"{self.name}: {error}") from error

    def compare(self, *, is_end: bool) -> None:
        """What was, with what is there. Raises LoopError."""
        for peer in self.peers:
            peer.compare(is_end=is_end)

    def check_floor(self, least: int) -> None:
        """Raises LoopError where so little is there that nothing was tried."""
        if self.there < least:
            raise LoopError(f"{self.name}: only {self.there} messages are there, and less than {least} prove nothing")

    def take(self, row: Row) -> None:
        """One record more. Raises LoopError."""
        if (row.kind, row.verdict) != ("message", "accepted"):
            raise LoopError(f"record {row.seq} is {row.kind}, {row.verdict}")
        self.there += 1
        self.peers[self.whose(row)].found(row.body)

    def whose(self, row: Row) -> int:
        """By whom it was sent."""
        return 0

    def said(self) -> str:
        """For the summary."""
        extra = sum(peer.extra for peer in self.peers)
        more = f", {extra} of them once more" if extra else ""
        again = sum(peer.repeats for peer in self.peers)
        return f"{self.name}: {self.acknowledged} acknowledged, all there{more}, {again} sent again, {self.hits} kills amid one"
