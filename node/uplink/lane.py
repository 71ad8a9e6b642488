"""One lane's seat on the link: its connection, how much it may send at once, and its part in the common session."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from node.errors import LinkError, NoAnswer
from node.uplink.gateway_client import GatewayClient
from node.uplink.link_turns import LinkTurns, SessionDesk
from node.uplink.path_switch import PathSwitch
from sync.errors import NotARecord
from sync.header import after_of
from sync.lanes import CRITICAL
from sync.names import Origin
from sync.outbox_view import StreamView
from sync.record import Record
from sync.sender_events import Event

T = TypeVar("T")
EXPANSION_MAX = (
    32.0  # of a batch when it is unpacked: the densest text compresses so; what follows may not compress at all
)
SLACK = 1.25  # a batch so much above the quantum still goes: building it a third time for less would cost more than it saves


class Lane:
    """What one uplink thread needs of the link. One thread only, `wants` excepted."""

    def __init__(
        self, name: str, clients: Mapping[str, GatewayClient], turns: LinkTurns, desk: SessionDesk, switch: PathSwitch, now: Callable[[], float]
    ) -> None:  # fmt: skip
        self.name, self._clients, self._switch = name, clients, switch
        self._path = switch.current
        self.took_s = 0.0  # the last call itself, without waiting for its turn
        self._turns, self._desk, self._now = turns, desk, now
        self._since = float("-inf")  # a session asked for before this knows less than we were told since
        self._expansion = 1.0

    def streams(self, all_streams: Iterable[StreamView]) -> list[StreamView]:
        """Those of this lane."""
        return [each for each in all_streams if each.lane == self.name]

    @property
    def client(self) -> GatewayClient:
        """Calls on the path in use. The connection on another path is closed when it is no longer the one."""
        if (current := self._switch.current) != self._path:
            self._clients[self._path].drop()
            self._path = current
        return self._clients[self._path]

    # -- session --------------------------------------------------------------------------------------------------

    def session(self, call: Callable[[], Event]) -> Event:
        """The common session, asked for after our last call: another lane's answer where there is one."""
        self._switch.await_leave(self.name)
        began, event = self._desk.ask(self._since, lambda: self._timed(call), self._check_leave)
        self._since = max(self._since, began)
        return event

    def is_behind(self, fence: str) -> bool:
        """Whether another lane was given a newer fence than this one: then a session comes before the next batch."""
        return self._desk.fence not in {"", fence}

    # -- what is sent ---------------------------------------------------------------------------------------------

    @property
    def quantum(self) -> int:
        """Bytes on the wire that one call may hold."""
        return self._turns.quantum(self.name)

    def octets_max(self, asked: int) -> int:
        """Bytes before compression that should fill the quantum, `asked` at most."""
        return min(asked, int(self.quantum * self._expansion))

    def records_max(self, count: int, octets: int, wire: int) -> int:
        """How many of `count` records (so many bytes, so many when packed) go now: all, or those that fit the quantum."""
        self._expansion = min(EXPANSION_MAX, max(1.0, octets / max(1, wire)))
        if wire <= self.quantum * SLACK:
            return count
        return max(1, count * self.quantum // wire)

    def put(self, octets: int, call: Callable[[], T], *, above: bool = False) -> T:
        """Make a call of so many bytes when it is this lane's turn. Raises LinkError."""
        self._switch.await_leave(self.name)
        with self._turns.turn(self.name, octets, self.client.round_trip_s, above=above):
            self.client.pace(self._turns.pace(octets))
            try:
                self._check_leave()
                return self._timed(call)
            finally:
                self._since = self._now()

    def mark_lost(self) -> bool | None:
        """Whether the gateway saw another mark than this lane's; None where it did not say."""
        seen = self.client.seen_dscp
        return None if seen is None else seen != self.client.way.dscp

    def document(self) -> dict[str, Any]:
        """Mark and quantum, for the status document."""
        client = self._clients[self._path]  # asked from another thread: only looked at, never closed
        return {"dscp": client.way.dscp, "dscp_seen": client.seen_dscp, "quantum_bytes": self.quantum}

    def note_needs(self, records: Iterable[Record]) -> None:
        """Remember what critical records of a call follow in other streams. It never delays them: the outflow waits, not the link."""
        for record in records if self.name == CRITICAL else ():
            with suppress(NotARecord):  # a damaged header says nothing
                if record.header and (after := after_of(record.header)) is not None:
                    self._turns.need(*after)

    def is_needed(self, origin: Origin, first: int, end: int) -> bool:
        """Whether a call of these positions goes one class higher, because something critical follows its end."""
        return self._turns.is_needed(origin.stream, origin.epoch, first, end)

    def wants(self) -> None:
        """A record came that can be sent now."""
        self._turns.wants(self.name)

    def rests(self) -> None:
        """Nothing can be sent now."""
        self._turns.rests(self.name)

    def _check_leave(self) -> None:
        if not self._switch.allows(self.name):
            raise NoAnswer("the way out became a metered one while this lane waited for its turn")

    def _timed(self, call: Callable[[], T]) -> T:
        began, path = self._now(), self._switch.current
        try:
            found = call()
        except LinkError:
            self._switch.failed(path, began)
            raise
        finally:
            self.took_s = self._now() - began
        self._switch.answered(path)
        return found
