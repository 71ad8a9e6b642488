"""Traffic as a capture file without the right to capture: a proxy that writes down what passes, and the file's bytes with made-up packet headers."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HL7_PORT = 2575
CLIENT_PORT_FIRST = 40_000
SEGMENT_BYTES_MAX = 1400  # as an Ethernet would cut it
MAGIC, LINK_RAW_IP = 0xA1B2C3D4, 101
SYN, FIN, PSH, ACK = 0x02, 0x01, 0x08, 0x10
CLIENT, SERVER = socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.2")


@dataclass
class Conversation:
    """What passed over one connection: pieces in their order, and whether the client said them."""

    pieces: list[tuple[bool, bytes]] = field(default_factory=list)


def capture(path: Path, conversations: list[Conversation]) -> None:
    """Write a capture file of whole TCP connections to port 2575."""
    packets: list[bytes] = []
    for number, each in enumerate(conversations):
        packets += _packets(each, CLIENT_PORT_FIRST + number)
    head = struct.pack("<IHHiIII", MAGIC, 2, 4, 0, 0, 65535, LINK_RAW_IP)
    rows = (
        struct.pack("<IIII", 1_800_000_000 + at // 1000, at % 1000 * 1000, len(packet), len(packet)) + packet
        for at, packet in enumerate(packets)
    )
    path.write_bytes(head + b"".join(rows))


def _packets(conversation: Conversation, port: int) -> Iterator[bytes]:
    sent = {True: 1000, False: 5000}
    yield _packet(True, port, sent, SYN, b"")
    yield _packet(False, port, sent, SYN | ACK, b"")
    sent = {True: 1001, False: 5001}
    yield _packet(True, port, sent, ACK, b"")
    for is_client, data in conversation.pieces:
        for at in range(0, len(data), SEGMENT_BYTES_MAX):
            piece = data[at : at + SEGMENT_BYTES_MAX]
            yield _packet(is_client, port, sent, ACK | PSH, piece)
            sent[is_client] += len(piece)
    yield _packet(True, port, sent, ACK | FIN, b"")


def _packet(is_client: bool, port: int, sent: dict[bool, int], flags: int, data: bytes) -> bytes:
    source, target = (CLIENT, SERVER) if is_client else (SERVER, CLIENT)
    ports = (port, HL7_PORT) if is_client else (HL7_PORT, port)
    segment = struct.pack(">HHIIBBHHH", *ports, sent[is_client], sent[not is_client], 5 << 4, flags, 65535, 0, 0) + data
    pseudo = source + target + struct.pack(">BBH", 0, 6, len(segment))
    segment = segment[:16] + struct.pack(">H", _checksum(pseudo + segment)) + segment[18:]
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0, 64, 6, 0) + source + target
    return head[:10] + struct.pack(">H", _checksum(head)) + head[12:] + segment


def _checksum(data: bytes) -> int:
    words = struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Proxy:
    """A listener that passes everything on to an address, and keeps it."""

    def __init__(self, address: tuple[str, int], *, port: int = 0) -> None:
        self.conversations: list[Conversation] = []
        self._address = address
        self._lock = threading.Lock()
        self._socks: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                self._socks.append(client)
                server = socket.create_connection(self._address)
                self._socks.append(server)
            except OSError:
                return
            conversation = Conversation()
            self.conversations.append(conversation)
            for is_client, source, target in ((True, client, server), (False, server, client)):
                threading.Thread(target=self._pass, args=(conversation, is_client, source, target), daemon=True).start()

    def _pass(self, conversation: Conversation, is_client: bool, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                with self._lock:  # written down before it goes on: what answers it comes after it
                    conversation.pieces.append((is_client, data))
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@contextmanager
def recorded(address: tuple[str, int], *, port: int = 0) -> Iterator[Proxy]:
    """A proxy for the time of the block."""
    proxy = Proxy(address, port=port)
    try:
        yield proxy
    finally:
        proxy.close()
