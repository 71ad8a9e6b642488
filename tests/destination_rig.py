"""Peers of a destination: a system that listens for MLLP and answers as a test says, one that answers HTTP, and nodes that serve them."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.node_rig import END, START, Feed, Node, wait_until

Answer = Callable[[bytes, "Peer"], list[bytes] | None]

EAGER = "import sync.pace as p; p.WAIT_S_MIN = p.WAIT_S_MAX = 0.05"  # pauses of tests


def msh(raw: bytes, field: int) -> bytes:
    """MSH-`field` of a message with the usual separators."""
    fields = raw.split(b"\r", 1)[0].split(b"|")
    return fields[field - 1] if field <= len(fields) else b""


def ack(raw: bytes, code: str = "AA", *, control_id: bytes | None = None, expected: int | None = None) -> bytes:
    """The reply to a message."""
    said = msh(raw, 10) if control_id is None else control_id
    number = b"" if expected is None else b"||%d" % expected
    return b"MSH|^~\\&|LIS|SITE|WASL|HUB|20300101080000||ACK|R1|P|2.5\rMSA|%b|%b%b\r" % (code.encode(), said, number)


class Peer:
    """A listener of MLLP. `answer` gives the replies to a message, None to close; everything that came is in `got`."""

    def __init__(self, answer: Answer | None = None, *, port: int = 0, tls: Any = None) -> None:
        self.answer: Answer = answer or (lambda raw, _: [ack(raw)])
        self.got: list[bytes] = []
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self._tls = tls
        self._lock = threading.Lock()
        self._socks: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._socks):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def write(self, data: bytes) -> None:
        """Bytes that nobody asked for, on every open connection."""
        for sock in list(self._socks):
            sock.sendall(data)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with self._lock:
            self.connections += 1
            self.open += 1
            self.most_open = max(self.most_open, self.open)
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            self._socks.add(sock)
            held = b""
            while data := sock.recv(65536):
                held += data
                while END in held:
                    frame, _, held = held.partition(END)
                    raw = frame.removeprefix(START)
                    self.got.append(raw)
                    replies = self.answer(raw, self)
                    if replies is None:
                        return
                    for reply in replies:
                        sock.sendall(reply if reply[:1] != b"M" else START + reply + END)
        except OSError:
            pass
        finally:
            with self._lock:
                self.open -= 1
            self._socks.discard(sock)
            with contextlib.suppress(OSError):
                sock.close()


def to(peer: Peer | int, *, name: str = "lis", streams: str = '"his"', more: str = "") -> str:
    """A destination's table."""
    port = peer if isinstance(peer, int) else peer.port
    return f'[[destinations]]\nname = "{name}"\nkind = "mllp"\naddress = "127.0.0.1:{port}"\nstreams = [{streams}]\nanswer_s_max = 5\n{more}\n'


def once(got: list[bytes]) -> list[bytes]:
    """Without repetitions of the message just before."""
    return [raw for at, raw in enumerate(got) if not at or raw != got[at - 1]]


def serve(node: Node, *tables: str, feeds: tuple[str, ...] = ("his",)) -> Node:
    """Configure destinations; `Node.more` stands before the feeds, so streams are declared by them."""
    node.feeds = [Feed(name) for name in feeds] if [feed.name for feed in node.feeds] != list(feeds) else node.feeds
    node.more = "\n".join(tables)
    return node


def destination(node: Node, name: str = "lis") -> dict[str, Any]:
    """How a running node says that a destination is."""
    return node.ask("status")["destinations"][name]


def parked(node: Node, name: str = "lis") -> list[dict[str, Any]]:
    """What stands parked, as `wasl destination parked --json` says it of a running node."""
    return node.ask(f"destination parked {name}")


def wait_got(peer: Peer, count: int) -> list[bytes]:
    """Wait until so many messages came."""
    wait_until(f"{count} messages at the peer", lambda: len(peer.got) >= count)
    return peer.got


@contextmanager
def http(answer: Callable[[Any], tuple[int, dict[str, str]]]) -> Iterator[tuple[str, list[Any]]]:
    """A server of HTTP whose answer is a status and headers; its base URL, and the requests that came: method, path, headers, body."""
    requests: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            request = (self.command, self.path, dict(self.headers), self.rfile.read(length))
            requests.append(request)
            status, headers = answer(request)
            self.send_response(status)
            for key, value in {"Content-Length": "0", **headers}.items():
                self.send_header(key, value)
            self.end_headers()

        do_POST = do_PUT = _any  # noqa: N815  # http.server's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/fhir", requests
    finally:
        server.shutdown()
        server.server_close()


def ids(got: list[bytes]) -> list[str]:
    """The control ids of messages."""
    return [msh(raw, 10).decode() for raw in got]
