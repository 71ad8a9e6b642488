"""MLLP by hand: messages that look synthetic, a raw connection to a feed, and what a reply says."""

from tests.raw_rig import Raw

START, END = b"\x0b", b"\x1c\r"


def message(control_id: str, *, sender: str = "HIS|TEST", kind: str = "ADT^A01", name: str = "مريض تجريبي", version: str = "2.5.1", pid: str = "900101001^^^TEST", more: str = "") -> bytes:  # fmt: skip
    """A message that looks synthetic."""
    return (
        f"MSH|^~\\&|{sender}|WASL|HUB|20300101080000||{kind}|{control_id}|P|{version}||||||UNICODE UTF-8\r"
        f"EVN||20300101080000\rPID|1||{pid}||{name}^Test\r{more}"
    ).encode()


class Mllp(Raw):
    """One raw connection to a feed: what is sent is what the test says, what comes back is read byte by byte from the wire."""

    def send(self, *payloads: bytes) -> None:
        """Frames, in one write."""
        self.write(b"".join(START + payload + END for payload in payloads))

    def reply(self) -> bytes:
        """The next reply's payload. ConnectionError where the node closes first."""
        while END not in self._read:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionResetError("closed without a reply")
            self._read += data
        frame, _, self._read = self._read.partition(END)
        assert frame.startswith(START), frame
        return frame[1:]

    def exchange(self, payload: bytes) -> "Reply":
        """Send one message and read its reply."""
        self.send(payload)
        return Reply(self.reply())

    def is_closed(self) -> bool:
        """Wait for the node to close; False where it sends something instead."""
        try:
            return not self._read and not self.socket.recv(1)
        except ConnectionError:
            return True


class Reply:
    """MSA-1, MSA-2, and ERR-3 and ERR-4 of a 2.5 reply."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        rows = {row[:3]: row.split(payload[3:4]) for row in payload.split(b"\r")}
        msa, err = rows[b"MSA"], rows.get(b"ERR", [])
        self.code, self.control_id = msa[1].decode(), msa[2] if len(msa) > 2 else b""
        self.error = err[3].split(b"^")[0].decode() if len(err) > 3 else ""
        self.severity = err[4].decode() if len(err) > 4 else ""

    def __repr__(self) -> str:
        return f"Reply({self.payload!r})"
