"""POCT1-A: point-of-care devices, a conversation a result, which also cut themselves off, leave before the ACK, repeat, and send a DOCTYPE."""

import random
import re
import socket
from collections import deque
from itertools import cycle
from typing import ClassVar

from node.tools.simulate_poct1a import FAULTS, Device
from tests.kill_rig import Address, Caller, LoopError, Row, Source, Taken
from tests.node_rig import Feed

# by these its documents are known, also where they are cut off before the result: each device counts from another
CONTROL_IDS = 1_000_000
EACH = 3  # results go wrong once
_CONTROL_ID = re.compile(rb'<HDR\.control_id V="(\d+)"')
_RESULT = re.compile(rb"<SVC>.*</SVC>", re.DOTALL)


class Faulty(Device):
    """A device whose next result goes wrong by `fault`, once. `broken`: the bytes that it sent that nobody may acknowledge."""

    def __init__(self, serial: str, dice: random.Random, *, control_id: int) -> None:
        super().__init__(serial, dice, control_id=control_id)
        self.broken = deque[bytes]()
        self.faults = dict.fromkeys(FAULTS, 0)
        self.fault = ""

    def _say(self, peer: socket.socket, kind: str, body: str, *, fault: str = "") -> None:
        if kind.startswith("OBS") and self.fault:
            fault, self.fault = self.fault, ""
            self.faults[fault] += 1
        super()._say(_Wire(peer, self) if fault in {"cut", "doctype"} else peer, kind, body, fault=fault)  # type: ignore[arg-type]


class _Wire:
    """A socket whose bytes are remembered before they are sent."""

    def __init__(self, peer: socket.socket, device: Faulty) -> None:
        self._peer, self._device = peer, device

    def sendall(self, data: bytes) -> None:
        self._device.broken.append(data)
        self._peer.sendall(data)

    def recv(self, size: int) -> bytes:
        return self._peer.recv(size)


class Remembering(Faulty):
    """A device that keeps the document that was not acknowledged, and sends it again as it was."""

    _kept: tuple[str, tuple[str, bytes]] = ("", ("", b""))

    def document(self, kind: str, body: str = "") -> tuple[str, bytes]:
        if not kind.startswith("OBS"):
            return super().document(kind, body)
        if self._kept[0] != body:
            self._kept = body, super().document(kind, body)
        return self._kept[1]


class Meter(Caller):
    """A point-of-care device: a conversation a result. ACK.R01 is the acknowledgement, on which it deletes the result.

    One that writes its document anew makes a further record of what it sends again (docs/devices-poct1a.md).
    """

    def __init__(self, number: int, seed: str, address: Address) -> None:
        super().__init__(number, seed, address)
        make = Remembering if number % 2 else Faulty
        self.device = make(f"SN-{number}", self.dice, control_id=number * CONTROL_IDS)
        self._faults = cycle(FAULTS[number:] + FAULTS[:number])

    def make(self, number: int) -> bytes:  # the device counts
        self.device.measure(1)
        if number % EACH == 0:
            self.device.fault = next(self._faults)
        # the same value within one second is the same text; a real one counts its results
        self.device.results[-1] = self.device.results[-1].replace(b"<OBS>", f'<OBS N="{self.made}">'.encode())
        return self.device.results[-1]

    def hand_over(self, data: bytes) -> bool:
        try:
            self.device.connect(*self.address)
        except OSError:
            pass
        return data not in self.device.results

    def keep(self, data: bytes, tries: int) -> None:
        self._mine.append(Taken(data, 0 if self.number % 2 else tries - 1))
        self.acknowledged += 1

    def record_broken(self, body: bytes) -> None:
        """The gateway holds this of a document that was cut off or refused. Raises LoopError where no such was sent since the last one."""
        while self.device.broken:
            sent = self.device.broken.popleft()
            if body and sent.startswith(body):
                return
        raise LoopError(f"{self}: {body!r:.200} was sent in no document that was cut off or refused, or is there twice")


class PoctFeed(Feed):
    """A POCT1-A feed of the configuration."""

    def text(self) -> str:
        return super().text().replace('kind = "mllp"', 'kind = "poct1a"')


class Poct(Source):
    """What was cut off was never acknowledged, so a kill may take it; what is there of it was sent, once, in its order."""

    name: ClassVar[str] = "poct1a"

    def __init__(self, seed: str) -> None:
        feed = PoctFeed(self.name, lines="rejected_per_hour_max = 100000")  # each is a record
        super().__init__(feed, [Meter(n, seed, feed.address) for n in range(2)])
        self.broken = 0

    def take(self, row: Row) -> None:
        match row.kind, row.verdict:
            case "message", "accepted":
                if found := _RESULT.search(row.body):  # the others say hello
                    self.there += 1
                    self.peers[int(row.control_id.partition("/")[0][3:])].found(found[0])
            case "incomplete", "rejected":
                self.broken += 1
                if (found := _CONTROL_ID.search(row.body)) is None:
                    raise LoopError(f"record {row.seq} says of no device that it is of it: {row.body!r:.200}")
                self.peers[int(found[1]) // CONTROL_IDS].record_broken(row.body)
            case kind, verdict:
                raise LoopError(f"record {row.seq} is {kind}, {verdict}")

    @property
    def faults_done(self) -> dict[str, int]:
        """How often each fault of the devices came."""
        return {name: sum(peer.device.faults[name] for peer in self.peers) for name in FAULTS}

    @property
    def done(self) -> int:
        return self.acknowledged if all(self.faults_done.values()) else 0

    def check_floor(self, least: int) -> None:
        super().check_floor(least)
        if not all(self.faults_done.values()):
            raise LoopError(f"{self.name}: a fault never came: {self.faults_done}")

    def said(self) -> str:
        told = ", ".join(f"{count} {name}" for name, count in self.faults_done.items())
        return f"{super().said()}; {told}: {self.broken} broken documents recorded"
