"""What the page of arriving records shows, as values: names, counts and codes, never content."""

from dataclasses import dataclass

from gateway.consumers import moment
from gateway.errors import ALARMS
from gateway.health import Health
from gateway.ledger_view import Arrival, LedgerView
from sync.errors import SyncError
from sync.header import Header, decode

ARRIVALS_MAX = 50  # a screen and a half: who wants more asks the API
ALARMS_SHOWN_MAX = 20
STREAMS_SHOWN_MAX = 500  # rows a browser shows without thinking; a centre of a thousand nodes uses the metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRow:
    """One log: `receipt_at` ISO 8601 UTC or empty."""

    node: str
    stream: str
    epoch: int
    lane: str
    size: int
    held: int
    at_node: int
    receipt_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalRow:
    """One record; kind, type and verdict are words of the header, `octets` is its body's length."""

    row: int
    node: str
    stream: str
    epoch: int
    seq: int
    received_at: str
    kind: str
    type: str
    verdict: str
    octets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRow:
    """One kind of alarm at one place, and the catalogue's sentence."""

    code: str
    node: str
    stream: str
    at: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One reading of the whole page. `receipt_at` is the newest receipt's."""

    gateway: str
    nodes: int
    records: int
    receipt_at: str
    streams: tuple[StreamRow, ...]
    arrivals: tuple[ArrivalRow, ...]
    alarms: tuple[AlarmRow, ...]


class Board:
    """Reads the page's values; blocks, so it runs in a reader's thread."""

    def __init__(self, view: LedgerView, health: Health, gateway: str) -> None:
        self._view, self._health, self._gateway = view, health, gateway

    def read(self) -> Shown:
        """One reading."""
        nodes = self._view.nodes()
        logs = [log for node in nodes for log in self._view.logs(node.name)]
        newest = max((log.receipt_at for log in logs), default=0)
        streams = tuple(
            StreamRow(
                node=log.origin.node, stream=log.origin.stream, epoch=log.origin.epoch, lane=log.lane, size=log.frontier.size,
                held=log.held, at_node=log.at_node, receipt_at=_seconds(log.receipt_at),
            )
            for log in logs[:STREAMS_SHOWN_MAX]
        )  # fmt: skip
        return Shown(
            gateway=self._gateway, nodes=len(nodes), records=sum(log.frontier.size for log in logs), receipt_at=_seconds(newest),
            streams=streams, arrivals=tuple(_arrival(found) for found in self._view.arrivals(ARRIVALS_MAX)), alarms=self._alarms(),
        )  # fmt: skip

    def _alarms(self) -> tuple[AlarmRow, ...]:
        """Those of this process that concern no node, and those the ledger remembers."""
        kept = [(code, node, stream, moment(us)) for code, node, stream, us, _ in self._view.alarms(ALARMS_SHOWN_MAX)]
        own = [(a.code, a.node, a.stream, _seconds(int(a.since))) for a in self._health.alarms()]
        return tuple(
            AlarmRow(code=code, node=node, stream=stream, at=at, text=ALARMS[code][1])
            for code, node, stream, at in (*own, *kept)
        )


def _arrival(found: Arrival) -> ArrivalRow:
    header = _header(found.header)
    return ArrivalRow(
        row=found.row, node=found.origin.node, stream=found.origin.stream, epoch=found.origin.epoch, seq=found.seq,
        received_at=moment(header.received_us) if header else "", kind=header.kind.word if header else "", type=header.message_type if header else "",
        verdict=header.verdict.word if header else "", octets=header.body_bytes if header else 0,
    )  # fmt: skip


def _header(stored: bytes) -> Header | None:
    """None where it is lost: one flipped bit must not take the page away."""
    try:
        return decode(stored) if stored else None
    except SyncError:
        return None


def _seconds(at: int) -> str:
    return moment(at * 1_000_000) if at else ""
