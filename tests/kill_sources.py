"""A source of every kind of feed for the kill loop: what each sends, what counts as its acknowledgement, and what must be at the gateway."""

import json
import re
import socket
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from operator import xor
from pathlib import Path
from typing import Any, ClassVar

from hl7.devices.astm_frames import encode_all
from node.tools.simulate_lines import Pty
from node.tools.simulate_pcd01 import report
from node.tools.simulate_poct1a import Device as PoctDevice
from tests.astm_rig import ACK, ENQ, EOT, AstmFeed, records, result
from tests.fhir_rig import OBSERVATION, FhirFeed, Http, dumped
from tests.folder_rig import CSV, FolderOf
from tests.kill_rig import LoopError, Peer, Row, Source, Taken
from tests.modbus_rig import Devices, ModbusFeed
from tests.mqtt_rig import Broker, Device, MqttFeed
from tests.node_rig import Feed, Mllp, Reply
from tests.serial_rig import Printer
from tests.soap_rig import SOAP, Heard, SoapFeed, envelope, post

ANSWER_S_MAX = 40.0
AHEAD_MAX = 2000  # messages that a broker has and that were not compared yet
NAMES = ("سلمى تجريبية", "Test Patient", "خالد تجريبي", "Zoë Probe")
ASTM_NAMES = ("سلمى^تجريبية", "Test^Patient", "خالد^تجريبي")

Address = tuple[str, int]


# -- HL7, FHIR, SOAP -----------------------------------------------------------------------------------------------------
class MonitorGateway(Peer):
    """PCD-01 over one MLLP connection; CA is the acknowledgement."""

    def __init__(self, number: int, seed: str, address: Address) -> None:
        super().__init__(number, seed)
        self._address, self._mllp = address, None

    def make(self, number: int) -> bytes:
        return report(number, bed=self.number, now=datetime.now(UTC), dice=self.dice, run=self.number)

    def hand_over(self, data: bytes) -> bool:
        try:
            self._mllp = self._mllp or Mllp(self._address)
            reply: Reply = self._mllp.exchange(data)
        except OSError:
            self.close()
            raise
        if (reply.code, reply.control_id) != ("CA", data.split(b"|")[9]):
            raise LoopError(f"{reply}")
        return True

    def close(self) -> None:
        if self._mllp is not None:
            self._mllp.socket.close()
            self._mllp = None


class Pcd(Source):
    name = "pcd"

    def __init__(self, seed: str) -> None:
        feed = Feed(self.name)
        super().__init__(feed, [MonitorGateway(n, seed, feed.address) for n in range(3)])

    def whose(self, row: Row) -> int:
        return int(row.control_id[3:].partition("-")[0])


class Client(Peer):
    """One request on a connection each, under an id of its own; a repeat bears the same."""

    def __init__(self, number: int, seed: str, address: Address) -> None:
        super().__init__(number, seed)
        self._address = address


class App(Client):
    """FHIR over HTTP; 201 is the acknowledgement."""

    def make(self, number: int) -> bytes:
        return dumped({**OBSERVATION, "id": f"k-{self.number}-{number}", "note": [{"text": self.dice.choice(NAMES)}]})

    def hand_over(self, data: bytes) -> bool:
        with Http(self._address) as http:
            answer = http.call("POST", "/Observation", data, X_Request_Id=json.loads(data)["id"])
        if answer.status != 201:
            raise LoopError(f"{answer}")
        return True


class Fhir(Source):
    name = "fhir"

    def __init__(self, seed: str) -> None:
        feed = FhirFeed(self.name)
        super().__init__(feed, [App(n, seed, feed.address) for n in range(2)])

    def whose(self, row: Row) -> int:
        return int(row.document["id"].split("-")[1])


class Submitter(Client):
    """SOAP; a success in the answer is the acknowledgement."""

    def make(self, number: int) -> bytes:
        return envelope(message_id=f"urn:uuid:k-{self.number}-{number}")

    def hand_over(self, data: bytes) -> bool:
        with Http(self._address) as http:
            answer = post(http, data, SOAP)
        if answer.status != 200 or Heard(answer).status != "Success":
            raise LoopError(f"{answer}")
        return True


class Soap(Source):
    name = "soap"

    def __init__(self, seed: str) -> None:
        feed = SoapFeed(self.name)
        super().__init__(feed, [Submitter(n, seed, feed.address) for n in range(2)])

    def whose(self, row: Row) -> int:
        return int(row.control_id.split("-")[-2])


# -- ASTM ----------------------------------------------------------------------------------------------------------------
class Analyzer(Peer):
    """One instrument, from an address of its own: a whole transfer again, where its last ACK was not read.

    `cuts`: message and acknowledged bytes of transfers that did not end and are in no record yet.
    """

    def __init__(self, number: int, seed: str, address: Address) -> None:
        super().__init__(number, seed)
        self._address = address
        self.cuts: list[tuple[bytes, int]] = []
        self.cut = 0

    def make(self, number: int) -> bytes:
        number += self.number * 100_000
        return result(number, name=self.dice.choice(ASTM_NAMES), tests=self.dice.randint(1, 4))

    def hand_over(self, data: bytes) -> bool:
        """Whether its last frame was acknowledged."""
        frames = encode_all(records(data), text_bytes_max=self.dice.choice((60, 240)))
        at = 0
        try:
            with socket.create_connection(self._address, 5, (f"127.0.0.{10 + self.number}", 0)) as peer:
                peer.settimeout(ANSWER_S_MAX)
                exchange(peer, ENQ)
                for at, frame in enumerate(frames):  # noqa: B007  # read after a cut
                    exchange(peer, frame)
                at = len(frames)
                if self.dice.random() < 0.8:  # some are switched off: what comes next may be a repetition, and is not
                    peer.sendall(EOT)
        except OSError:
            if at < len(frames):
                self.cut += at > 0
                if at and at < len(frames) - 1:  # the last frame's ACK may be what was lost, and the message be there
                    self.cuts.append((data, sum(len(frame) - 7 for frame in frames[:at])))
                return False
        return True


def exchange(peer: socket.socket, data: bytes) -> None:
    """Send, and read the one byte that says it was taken."""
    peer.sendall(data)
    answer = peer.recv(1)
    if not answer:
        raise ConnectionResetError("closed")
    if answer != ACK:
        raise LoopError(f"{answer!r}")


class Astm(Source):
    """What was acknowledged of a transfer that did not end is in a record marked incomplete; none of these holds anything that was not sent."""

    name = "astm"

    def __init__(self, seed: str) -> None:
        feed = AstmFeed(self.name)
        super().__init__(feed, [Analyzer(n, seed, feed.address) for n in range(4)])
        self.incomplete = 0
        self._cut: list[bytes] = []

    def take(self, row: Row) -> None:
        if row.kind == "message":
            super().take(row)
        elif (row.kind, row.verdict) == ("incomplete", "accepted-with-warning"):
            self.incomplete += 1
            self._cut.append(row.body)
        else:
            raise LoopError(f"record {row.seq} is {row.kind}, {row.verdict}")

    def read(self, centre: Any, node: str, *, is_end: bool = False) -> None:
        super().read(centre, node, is_end=is_end)
        for peer in self.peers:
            known = list(peer.cuts)
            peer.cuts[: len(known)] = [
                (message, size)
                for message, size in known
                if not any(body.startswith(message[:size]) and message.startswith(body) for body in self._cut)
            ]
            if is_end and peer.cuts:
                message, size = peer.cuts[0]
                raise LoopError(f"{peer}: {size} acknowledged bytes of {message!r:.100} are in no record")

    def whose(self, row: Row) -> int:
        return int(row.body.split(b"|T", 1)[1][:6]) // 100_000

    def said(self) -> str:
        cut = sum(peer.cut for peer in self.peers)
        return f"{super().said()}; {cut} transfers cut off, {self.incomplete} incomplete records"


# -- POCT1-A -------------------------------------------------------------------------------------------------------------
class Remembering(PoctDevice):
    """A device that keeps the document that was not acknowledged, and sends it again as it was."""

    _kept: tuple[str, tuple[str, bytes]] = ("", ("", b""))

    def document(self, kind: str, body: str = "") -> tuple[str, bytes]:
        if not kind.startswith("OBS"):
            return super().document(kind, body)
        if self._kept[0] != body:
            self._kept = body, super().document(kind, body)
        return self._kept[1]


class Meter(Peer):
    """A point-of-care device: a conversation a result. ACK.R01 is the acknowledgement, on which it deletes the result.

    One that writes its document anew makes a further record of what it sends again (docs/devices-poct1a.md).
    """

    def __init__(self, number: int, seed: str, address: Address) -> None:
        super().__init__(number, seed)
        self._address = address
        make = Remembering if number % 2 else PoctDevice
        self._device = make(f"SN-{number}", self.dice, control_id=10_000)

    def make(self, number: int) -> bytes:  # the device counts
        self._device.measure(1)
        # the same value within one second is the same text; a real one counts its results
        self._device.results[-1] = self._device.results[-1].replace(b"<OBS>", f'<OBS N="{self.made}">'.encode())
        return self._device.results[-1]

    def hand_over(self, data: bytes) -> bool:
        try:
            self._device.connect(*self._address)
        except OSError:
            pass
        return data not in self._device.results

    def keep(self, data: bytes, tries: int) -> None:
        self._mine.append(Taken(data, 0 if self.number % 2 else tries - 1))
        self.acknowledged += 1


class PoctFeed(Feed):
    def text(self) -> str:
        return super().text().replace('kind = "mllp"', 'kind = "poct1a"')


class Poct(Source):
    name = "poct1a"
    _result: ClassVar = re.compile(rb"<SVC>.*</SVC>", re.DOTALL)

    def __init__(self, seed: str) -> None:
        feed = PoctFeed(self.name)
        super().__init__(feed, [Meter(n, seed, feed.address) for n in range(2)])

    def take(self, row: Row) -> None:
        if (row.kind, row.verdict) != ("message", "accepted"):
            raise LoopError(f"record {row.seq} is {row.kind}, {row.verdict}")
        if found := self._result.search(row.body):  # the others say hello
            self.peers[int(row.control_id.partition("/")[0][3:])].found(found[0])


# -- lines ---------------------------------------------------------------------------------------------------------------
BLOCK = 'ends = "block"\ncheck = "xor-hex"\nquiet_ms = 5000'


def block(number: int, of: int, name: str) -> bytes:
    """A report with its number and an exclusive-or over text and end."""
    text = f"{of};{number:07};{name};HB;12.{number % 10}".encode() + b"\x03"
    return b"\x02" + text + b"%02X\r\n" % reduce(xor, text, 0)


class Asking(Peer):
    """A device that waits for ACK, and prints again without it. After a crash between commit and ACK it is there twice (docs/devices-serial.md)."""

    def __init__(self, number: int, seed: str, address: Address) -> None:
        super().__init__(number, seed)
        self._address, self._line = address, None

    def make(self, number: int) -> bytes:
        return block(number, self.number, self.dice.choice(NAMES))

    def hand_over(self, data: bytes) -> bool:
        try:
            if self._line is None:
                self._line = socket.create_connection(self._address, 5)
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


class Telling(Peer):
    """A device that prints and waits for nothing. `missing`: of what it printed, that which was passed over at the gateway."""

    def __init__(self, number: int, seed: str, link: Path) -> None:
        super().__init__(number, seed)
        self._pty = Pty(link)
        self.printed, self.missing = deque[Print](), list[Print]()

    def turn(self) -> None:
        data = block(self.made, 0, self.dice.choice(NAMES))
        printed = Print(data.rstrip(b"\r\n"), time.time_ns() // 1000)
        self.made += 1
        self.is_amid = True
        self.printed.append(printed)  # it may be at the gateway before its last byte's time has passed here
        self._pty.send(data)
        printed.ended = time.time_ns() // 1000
        self.acknowledged += 1
        self.is_amid = False

    def unplug(self) -> None:
        """Take its cable away."""
        self._pty.close()

    def found(self, data: bytes) -> None:
        while self.printed:
            if self.printed[0].data == data:
                self.printed.popleft()
                return
            self.missing.append(self.printed.popleft())
        raise LoopError(f"{data!r} is there, and was printed at another time, or never")


class Told(Source):
    """Nothing is acknowledged here: each report is there, once and in its order; or it is cut off, as its record says; or a gap record tells of the
    time in which it was printed."""

    name = "told"

    def __init__(self, seed: str, folder: Path) -> None:
        link = folder / "port"
        super().__init__(Printer(self.name, device=str(link), lines=BLOCK), [Telling(0, seed, link)])
        self.gaps: list[tuple[int, int]] = []
        self.cut: list[bytes] = []
        self.there = self.lost = 0

    def take(self, row: Row) -> None:
        (peer,) = self.peers
        if row.kind == "gap":
            self.gaps.append((row.document["first_us"], row.document["last_us"]))
        elif row.kind == "message":
            peer.found(row.body)
            self.there += 1
        elif row.kind == "incomplete":
            self.cut.append(row.body)
        else:
            raise LoopError(f"record {row.seq} is {row.kind}")

    def read(self, centre: Any, node: str, *, is_end: bool = False) -> None:
        super().read(centre, node, is_end=is_end)
        (peer,) = self.peers
        untold = [each for each in peer.missing if not self._is_told(each)]
        self.lost += len(peer.missing) - len(untold)
        peer.missing = untold
        if is_end and (untold or peer.printed):
            raise LoopError(
                f"{self.name}: no gap tells of {untold[:3]} (gaps {self.gaps[-4:]}), {list(peer.printed)[:3]}"
            )

    def abandon(self) -> None:
        super().abandon()
        for peer in self.peers:
            if peer.ident is not None:
                peer.join(5)
            peer.unplug()

    def _is_told(self, printed: Print) -> bool:
        return any(first <= printed.ended and printed.began <= last for first, last in self.gaps) or any(
            printed.data.startswith(body) for body in self.cut
        )

    def said(self) -> str:
        away = sum(last - first for first, last in self.gaps) / 1e6
        return (
            f"{self.name}: {self.acknowledged} printed, {self.there} there, {self.lost} within gaps or cut off ({len(self.cut)}),"
            f" {len(self.gaps)} gaps of {away:.0f} s, {self.hits} kills amid one"
        )


# -- folder --------------------------------------------------------------------------------------------------------------
class Dropper(Peer):
    """A program that drops some files and waits until they were moved. Their bytes are often the same: two such files are two records."""

    def __init__(self, number: int, seed: str, folder: Path) -> None:
        super().__init__(number, seed)
        self._folder = folder
        folder.mkdir()

    def turn(self) -> None:
        self.is_amid, dropped = True, []
        for _ in range(self.dice.randint(1, 3)):
            name, data = f"{self.made:06}.csv", CSV + b"%d\n" % self.dice.randrange(2)
            self.made += 1
            (self._folder / f".{name}").write_bytes(data)
            (self._folder / f".{name}").rename(self._folder / name)
            dropped.append((name, data))
        for name, data in dropped:
            while (self._folder / name).exists():
                if self.is_over:
                    return
                time.sleep(0.01)
            self._mine.append(Taken(name.encode() + b" " + data))
            self.acknowledged += 1
        self.is_amid = False


class Folder(Source):
    name = "folder"

    def __init__(self, seed: str, folder: Path) -> None:
        path = folder / "drop"
        super().__init__(
            FolderOf(self.name, listen=("x",), path=path, lines="keep_files_max = 100"), [Dropper(0, seed, path)]
        )

    def take(self, row: Row) -> None:
        if (row.kind, row.verdict) != ("message", "accepted"):
            raise LoopError(f"record {row.seq} is {row.kind}, {row.verdict}")
        self.peers[0].found(row.control_id.partition("@")[0].encode() + b" " + row.body)


# -- telemetry -----------------------------------------------------------------------------------------------------------
TOPICS = "".join(
    f'[[feeds.topics]]\nfilter = "ward/{name}"\ncontent_type = "application/json"\n{identity}'
    for name, identity in (("0", 'identity = ["seq"]\n'), ("1", ""))
)


class Publisher(Peer):
    """A device: each reading is sent once and waited for until the broker has it. One counts its readings; the other's are often equal in every byte."""

    def __init__(self, number: int, seed: str, broker: Broker) -> None:
        super().__init__(number, seed)
        self._device = Device(broker, f"monitor-{number}")

    def turn(self) -> None:
        if len(self._mine) < AHEAD_MAX:  # else the node is behind: it has been killed more than it ran
            super().turn()

    def make(self, number: int) -> bytes:
        value = self.dice.choice((97, 97, 98))
        return json.dumps({"name": "مريم", "spo2": value} if self.number else {"seq": number, "spo2": value}).encode()

    def hand_over(self, data: bytes) -> bool:
        self._device.send(f"ward/{self.number}", data)
        return True

    def close(self) -> None:
        self._device.close()


class Mqtt(Source):
    """The broker has what was sent at once and gives it to the node, so nothing shows what is under way; it always has something to give."""

    name = "mqtt"

    def __init__(self, seed: str, broker: Broker) -> None:
        feed: Any = MqttFeed(self.name, broker, lines="receive_max = 20", topics=TOPICS)
        super().__init__(feed, [Publisher(n, seed, broker) for n in range(2)])

    def whose(self, row: Row) -> int:
        return int(b'"seq"' not in row.body)


class Modbus(Source):
    """A poll is its own acknowledgement. Per start of the node, values and gaps count every turn up to the last one told; between two starts lies a
    gap, from the last value in the log to the first of the next."""

    name = "modbus"

    def __init__(self, devices: Devices) -> None:
        feed: Any = ModbusFeed(self.name, {f"fridge-{unit}": unit for unit in (1, 2, 3)})
        super().__init__(feed, [])
        self._devices = devices
        self._boot = ""
        self._turns: dict[str, list[int]] = {}
        self._wall_us = self._gap_us = 0
        self.polls = self.gaps = self.boots = 0

    def stir(self, dice: Any) -> None:
        self._devices.mute = set(dice.sample((1, 2, 3), dice.randrange(2)))

    @property
    def acknowledged(self) -> int:
        return sum(self._devices.asked.values())

    @property
    def is_amid(self) -> bool:
        return bool(self._devices.mute)

    def take(self, row: Row) -> None:
        body = row.document
        if body["boot"] != self._boot:
            self._check_turns()
            self._boot, self.boots = body["boot"], self.boots + 1
            is_told = row.kind == "gap" and body["subject"] == "line" and body["first_us"] == self._wall_us
            if self._wall_us and not is_told:
                raise LoopError(f"record {row.seq}: no gap from {self._wall_us} on stands before {body}")
            self._gap_us = body.get("last_us", 0)
        if row.kind == "message":
            self.polls += 1
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

    def read(self, centre: Any, node: str, *, is_end: bool = False) -> None:
        super().read(centre, node, is_end=is_end)
        if is_end:
            self._check_turns()

    def said(self) -> str:
        return f"{self.name}: {self.polls} polls and {self.gaps} gaps of {self.boots} starts without a hole"
