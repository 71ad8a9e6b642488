"""A raw instrument for tests of ASTM feeds, and such a feed of the rig's configuration."""

from dataclasses import dataclass

from hl7.devices.astm_frames import encode_all
from tests.node_rig import Feed
from tests.raw_rig import Raw

ENQ, ACK, NAK, EOT = b"\x05", b"\x06", b"\x15", b"\x04"
STREAM = "xn"


@dataclass
class AstmFeed(Feed):
    """An ASTM feed; without addresses `lines` says where it is."""

    def text(self) -> str:
        listen = (
            "listen = [" + ", ".join(f'"{host}:{self.port}"' for host in self.listen) + "]\n" if self.listen else ""
        )
        return f'[[feeds]]\nname = "{self.name}"\nkind = "astm"\n{listen}{self.lines}\n{self.more}\n'


def result(
    number: int = 1,
    *,
    value: str = "5.4",
    name: str = "فاطمة^تجريبية",
    at: str = "20300101080000",
    end: str = "L|1|N\r",
    tests: int = 2,
) -> bytes:
    """A haematology result that looks synthetic."""
    rows = "".join(f"R|{n}|^^^WBC{n}|{value}|10*3/uL||N||F||||{at}\r" for n in range(1, tests + 1))
    return f"H|\\^&|||XN-550^00-21^TEST|||||||P|E1394-97|{at}\rP|1||T{number:06}||{name}\rO|1|S{number:06}||^^^CBC|R\r{rows}{end}".encode()


def records(message: bytes) -> list[bytes]:
    """Its records, each with its CR."""
    return [record + b"\r" for record in message.split(b"\r") if record]


class Instrument(Raw):
    """One TCP connection as an instrument."""

    def read(self, count: int = 1) -> bytes:
        """So many bytes, fewer only where the node closes."""
        data = b""
        while len(data) < count and (more := self.socket.recv(count - len(data))):
            data += more
        return data

    def exchange(self, data: bytes) -> bytes:
        """Send, and read one byte."""
        self.write(data)
        return self.read()

    def begin(self) -> None:
        assert self.exchange(ENQ) == ACK

    def frames(self, message: bytes, *, size: int = 240) -> list[bytes]:
        return encode_all(records(message), text_bytes_max=size)

    def send(self, message: bytes, *, size: int = 240) -> None:
        """A whole transfer."""
        self.begin()
        for frame in self.frames(message, size=size):
            assert self.exchange(frame) == ACK
        self.write(EOT)
