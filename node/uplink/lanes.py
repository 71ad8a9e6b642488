"""All lanes of the uplink as one thing for the rest of the core: each a thread with its own connection, over one link and one session."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from node.uplink.link_state import LinkState
from node.uplink.link_turns import LinkTurns
from node.uplink.path_switch import PathSwitch
from node.uplink.uplink import Uplink
from sync.names import Origin

# Of several lanes the state that a person must hear of first. Down is said although another lane is up: that lane's records wait.
STATES = ("fenced", "revoked", "down", "up", "unproven")


class Lanes:
    """The uplink's threads, by lane."""

    def __init__(
        self, uplinks: Sequence[Uplink], turns: LinkTurns, switch: PathSwitch, lane_of: Callable[[str], str]
    ) -> None:
        self._uplinks = {each.lane.name: each for each in uplinks}
        self._turns, self._switch, self._lane_of = turns, switch, lane_of

    def start(self) -> None:
        """Start every lane."""
        for each in self._uplinks.values():
            each.start()

    def grown(self, origin: Origin, size: int) -> None:
        """A log has this size now, durably."""
        self._uplinks[self._lane_of(origin.stream)].grown(origin, size)

    def retry(self) -> None:
        """Try now on every lane."""
        for each in self._uplinks.values():
            each.retry()

    def part(self, stream: str) -> None:
        """Open a further epoch of a stream, with the next session: an order."""
        self._uplinks[self._lane_of(stream)].part(stream)

    def stop(self) -> None:
        """End every lane after the call under way."""
        for each in self._uplinks.values():
            each.stop()
        self._turns.stop()
        self._switch.stop()

    @property
    def link(self) -> LinkState:
        """All lanes in one: the state a person must hear of first, the newest error, the sums of all counts."""
        links = [each.link for each in self._uplinks.values()]
        first = min(links, key=lambda link: STATES.index(link.state))
        errors = [link.last_error for link in links if link.last_error is not None]
        trips = [link.round_trip_ms for link in links if link.round_trip_ms is not None]
        return replace(
            first,
            last_error=max(errors, key=lambda error: error[1], default=None),
            round_trip_ms=min(trips, default=None),
            calls=sum(link.calls for link in links),
            failures=sum(link.failures for link in links),
            octets_sent=sum(link.octets_sent for link in links),
            records_sent=sum(link.records_sent for link in links),
        )

    def lanes(self) -> dict[str, LinkState]:
        """How each lane is."""
        return {name: each.link for name, each in self._uplinks.items()}

    def goodput(self) -> float | None:
        """Measured bytes a second of the link; None before there is a measurement."""
        return self._turns.goodput

    def paths(self) -> dict[str, bool]:
        """Every path by name, and whether it is the one in use."""
        return {path["name"]: path["in_use"] for path in self._switch.document()}

    def document(self) -> dict[str, Any]:
        """The link for the status document."""
        return {
            **asdict(self.link),
            "goodput_bytes_per_s": None if self.goodput() is None else round(self.goodput() or 0),
            "paths": self._switch.document(),
            "lanes": {
                name: {
                    "state": each.link.state,
                    "round_trip_ms": each.link.round_trip_ms,
                    "octets_sent": each.link.octets_sent,
                    **each.lane.document(),
                }
                for name, each in self._uplinks.items()
            },
        }
