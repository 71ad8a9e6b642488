"""Modbus: points that are polled. Nothing is sent by itself, so what must be there is that every turn is: as a value, or in a gap."""

from typing import Any

from tests.kill_rig import LoopError, Row, Source
from tests.modbus_rig import Devices, ModbusFeed

AWAY_US_MAX = 3_000_000  # two turns of this feed's points, which a start may have missed (node/feeds/modbus.py), and one for its first word


class Modbus(Source):
    """A poll is its own acknowledgement. Per start of the node, values and gaps count every turn up to the last one told; between two starts lies a
    gap, from the last value in the log to the first of the next, unless no turn was missed."""

    name = "modbus"

    def __init__(self, devices: Devices) -> None:
        feed: Any = ModbusFeed(self.name, {f"fridge-{unit}": unit for unit in (1, 2, 3)})
        super().__init__(feed, [])
        self._devices = devices
        self._boot = ""
        self._turns: dict[str, list[int]] = {}
        self._wall_us = self._gap_us = 0
        self.gaps = self.boots = 0

    def stir(self, dice: Any) -> None:
        self._devices.mute = set(dice.sample((1, 2, 3), dice.randrange(2)))

    @property
    def acknowledged(self) -> int:
        return sum(self._devices.asked.values())

    @property
    def done(self) -> int:
        return self.there

    @property
    def is_amid(self) -> bool:
        return bool(self._devices.mute)

    def take(self, row: Row) -> None:
        body = row.document
        if body["boot"] != self._boot:
            self._check_turns()
            self._boot, self.boots = body["boot"], self.boots + 1
            is_told = row.kind == "gap" and body["subject"] == "line" and body["first_us"] == self._wall_us
            # the first word of a start may be a point's, which failed when the node was killed: its own gap ends with the start
            away_us = body["wall_us" if row.kind == "message" else "last_us"] - self._wall_us
            if self._wall_us and not is_told and away_us > AWAY_US_MAX:
                raise LoopError(f"record {row.seq}: no gap from {self._wall_us} on stands before {body}")
            self._gap_us = body.get("last_us", 0)
        if row.kind == "message":
            self.there += 1
            self._turns.setdefault(body["point"], []).append(body["sequence"])
            if body["registers"] != [42, 65351, 850] or body["wall_us"] < self._gap_us:
                raise LoopError(f"record {row.seq}: invented {body}")
            self._wall_us = body["wall_us"]
        elif body["subject"] != "line":
            self.gaps += 1
            turns = self._turns.setdefault(body["subject"], [])
            for low, high in body["sequences"]:
                turns += range(low, high + 1)

    def _check_turns(self) -> None:
        for point, turns in self._turns.items():
            if sorted(turns) != list(range(len(turns))):
                raise LoopError(f"turns of {point} in boot {self._boot}: {sorted(turns)}")
        self._turns = {}

    def compare(self, *, is_end: bool) -> None:
        if is_end:
            self._check_turns()

    def said(self) -> str:
        return f"{self.name}: {self.there} polls and {self.gaps} gaps of {self.boots} starts without a hole"
