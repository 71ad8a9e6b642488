"""The HTTP of the uplink: one kept-alive TLS 1.3 connection to the gateway, its answers bounded and told apart from failures of the path."""

import json
import math
import socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPSConnection

from node.errors import (
    AnswerUnreadable,
    CertificateRefused,
    GatewayUnreachable,
    LinkError,
    NameUnknown,
    NoAnswer,
    TlsFailed,
    WrongGateway,
)
from node.sockets import Way, connect, pace, path_mtu, round_trip_s
from sync.batch import CONTENT_TYPE
from sync.certificates import gateway_of, read
from sync.errors import BadCertificate
from sync.receipt import SHORT_QUERY
from sync.session import SESSION_BYTES_MAX

ANSWER_BYTES_MAX = SESSION_BYTES_MAX  # a session of a thousand streams; receipts are 0.6 kB
CODES = frozenset(
    {
        "fenced",
        "revoked",
        "rewind",
        "fork",
        "too-large",
        "bad-batch",
        "bad-opening",
        "bad-key",
        "bad-upload",
        "busy",
        "unknown-dictionary",
    }
)
NOT_OURS = ("bad-certificate", "expired", "not-a-node")  # failures of the path, but ones that a technician can mend
FENCE_HEADER = "Wasl-Fence"
NOTE_TYPE = "text/plain; charset=utf-8"
DSCP_HEADER = "Wasl-DSCP"
UPLOAD_SIZE_HEADER = "Wasl-Upload-Size"
UPLOAD_DIGITS_MAX = 9  # an upload is some ten million bytes
WAIT_S_MAX = 3600.0  # a Retry-After beyond this is not ours
_SHORT = dict.fromkeys(
    ("User-Agent", "Accept-Encoding"), urllib3.util.SKIP_HEADER
)  # 60 bytes a batch that nobody reads


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that is a verdict but no success: its code and what else it says. `wait_s` from Retry-After."""

    code: str
    members: dict[str, Any]
    wait_s: float


class _CheckedConnection(HTTPSConnection):
    """Refuses a server that is of our authority but not the configured gateway, before one byte of a request leaves."""

    gateway_name = ""
    way = Way()
    pace = math.inf
    _held: bytes | None = None  # of the request that begins: its head, empty until it is there
    opened: "list[_CheckedConnection]"  # the client's: its newest connection, to be asked how it is

    def _new_conn(self) -> socket.socket:
        try:
            return connect(self._dns_host, self.port, self.way, float(self.timeout or 0) or None)
        except socket.gaierror as error:
            raise urllib3.exceptions.NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise urllib3.exceptions.ConnectTimeoutError(self, "no connection in time") from error
        except OSError as error:
            raise urllib3.exceptions.NewConnectionError(self, str(error)) from error

    def request(self, method: str, *args: Any, **options: Any) -> None:
        """Send a batch's head and body in one write: a head that leaves by itself is a packet more, with headers of its own, that a bad line may lose.

        Not a session's: where the gateway refuses our certificate it closes on what came, and it is the second write that lets its reason be read.
        """
        self._held = b"" if method == "PUT" else None
        super().request(method, *args, **options)
        held, self._held = self._held, None
        if held:  # no body came
            super().send(held)

    def send(self, data: Any) -> None:
        """Keep the head back until the first of the body is here. urllib3 gives each part by itself."""
        if self._held is None:
            super().send(data)
        elif not self._held:
            self._held = bytes(data)
        else:
            held, self._held = self._held, None
            super().send(held + data)

    def connect(self) -> None:
        super().connect()
        self.opened[:] = [self]
        sock = self.sock
        der = sock.getpeercert(binary_form=True) if isinstance(sock, ssl.SSLSocket) else None
        try:
            found = gateway_of(read(der or b""))
        except BadCertificate as error:
            self.close()
            raise WrongGateway(str(error)) from error
        if found != self.gateway_name:
            self.close()
            raise WrongGateway(f"the server is {found}")
        pace(self.sock, self.pace)  # only now: a handshake is short, and what is known may be of another path


class GatewayClient:
    """Calls to one gateway. Raises LinkError for every failure of the path; one thread only."""

    def __init__(
        self,
        url: str,
        name: str,
        tls: ssl.SSLContext,
        *,
        connect_s_max: float,
        answer_s_max: float,
        way: Way | None = None,
    ) -> None:
        parts = urlsplit(url)
        self.way = way or Way()
        self.seen_dscp: int | None = None  # what the gateway saw of the mark, where it says so
        self._opened: list[_CheckedConnection] = []
        known = {"gateway_name": name, "way": self.way, "opened": self._opened}
        self._checked: type[_CheckedConnection] = type("CheckedConnection", (_CheckedConnection,), known)
        self._pool = urllib3.HTTPSConnectionPool(
            parts.hostname or "", parts.port or 443, maxsize=1, block=True, retries=False, ssl_context=tls,
            timeout=urllib3.Timeout(connect=connect_s_max, read=answer_s_max),
        )  # fmt: skip
        self._pool.ConnectionCls = self._checked
        self._path = parts.path.rstrip("/")

    def session(self, body: bytes) -> bytes | Problem:
        """POST /v1/session: the answer's JSON, or a verdict."""
        return self._call("POST", "/v1/session", body, {"Content-Type": "application/json"})

    def put(self, *, stream: str, epoch: int, first: int, fence: str, body: bytes) -> bytes | Problem:
        """PUT a batch: the cosigned note, perhaps without what the batch said of it, or a verdict."""
        headers = {"Content-Type": CONTENT_TYPE, FENCE_HEADER: fence, **_SHORT}
        return self._call("PUT", f"/v1/streams/{stream}/{epoch}/{first}?{SHORT_QUERY}", body, headers)

    def root(self, *, stream: str, epoch: int, size: int) -> bytes | Problem:
        """GET the root of a log at a size: the answer's JSON, or a verdict."""
        return self._call("GET", f"/v1/streams/{stream}/{epoch}?size={size}", None, {})

    def epoch(self, *, stream: str, fence: str, statement: bytes) -> bytes | Problem:
        """POST the statement that opens a further epoch: the answer's JSON, or a verdict."""
        return self._call(
            "POST", f"/v1/streams/{stream}/epochs", statement, {"Content-Type": NOTE_TYPE, FENCE_HEADER: fence}
        )

    def upload_size(self, name: str) -> int | None:
        """HEAD an upload: how many bytes of it the gateway holds; None where it takes none."""
        response, _ = self._exchange("HEAD", f"/v1/uploads/{name}/0", b"", _SHORT)
        if response.status in {404, 405}:  # a gateway from before uploads: the body goes in one piece, as ever
            return None
        held = response.headers.get(UPLOAD_SIZE_HEADER, "")
        if response.status != 200 or not (held.isascii() and held.isdigit() and len(held) <= UPLOAD_DIGITS_MAX):
            raise AnswerUnreadable(f"status {response.status} to the question for an upload")
        return int(held)

    def upload(self, name: str, offset: int, part: bytes) -> bytes | Problem:
        """PUT a part of an upload: an answer that it is kept, or a verdict."""
        headers = {"Content-Type": "application/octet-stream", **_SHORT}
        return self._call("PUT", f"/v1/uploads/{name}/{offset}", part, headers)

    def pace(self, octets_per_s: float) -> None:
        """Send no faster than this from now on."""
        self._checked.pace = octets_per_s
        if (sock := self._socket()) is not None:
            pace(sock, octets_per_s)

    def drop(self) -> None:
        """Close the connection; the next call opens another."""
        for each in self._opened:
            each.close()

    def close(self) -> None:
        """Close for good."""
        self._pool.close()

    def round_trip_s(self) -> float:
        """The least round trip of the open connection; 0.0 without one."""
        return round_trip_s(sock) if (sock := self._socket()) is not None else 0.0

    def path_mtu(self) -> int:
        """The packet size that the kernel believes the open connection's path to carry; 0 where it does not say."""
        return path_mtu(sock) if (sock := self._socket()) is not None else 0

    def _socket(self) -> socket.socket | None:
        found = self._opened[0].sock if self._opened else None
        return found if isinstance(found, socket.socket) and found.fileno() >= 0 else None

    def _call(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> bytes | Problem:
        response, data = self._exchange(method, path, body, headers)
        if response.status == 200:
            return data
        return _problem(response, data)

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[urllib3.BaseHTTPResponse, bytes]:
        try:
            response = self._pool.urlopen(
                method,
                self._path + path,
                body=body,
                headers=headers,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            try:
                data = response.read(ANSWER_BYTES_MAX + 1)
            finally:
                if response.length_remaining or not response.closed:
                    response.close()  # an answer that is not at its end is cut off with its connection
                # and the connection goes back to its pool of one either way, or the next call would wait for it for ever
                response.release_conn()
        except LinkError:
            raise
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _failure(error) from error
        self._read_mark(response)
        if len(data) > ANSWER_BYTES_MAX:
            raise AnswerUnreadable("answer too long")
        # a cut answer must not pass for a whole one, and so for a bad receipt
        if response.length_remaining:
            raise NoAnswer("answer cut off")
        if response.length_remaining is None and not response.chunked:
            raise AnswerUnreadable("answer without a length")
        return response, data

    def _read_mark(self, response: urllib3.BaseHTTPResponse) -> None:
        seen = response.headers.get(DSCP_HEADER, "")
        if seen.isascii() and seen.isdigit() and len(seen) <= 2:
            self.seen_dscp = int(seen)


def _problem(response: urllib3.BaseHTTPResponse, data: bytes) -> Problem:
    if response.headers.get("Content-Type", "").partition(";")[0].strip() != "application/problem+json":
        raise AnswerUnreadable(f"status {response.status} without a code")
    try:
        members = json.loads(data)
        code = members["code"]
        wait_s = float(response.headers.get("Retry-After", "0"))
        known = code in CODES  # TypeError for a code that is a list
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AnswerUnreadable(f"status {response.status} without a code") from error
    if code in NOT_OURS:
        raise CertificateRefused(code)
    if not known:
        raise AnswerUnreadable(f"status {response.status} with an unknown code")
    return Problem(code, members, wait_s if 0 <= wait_s <= WAIT_S_MAX else WAIT_S_MAX)


def _failure(error: BaseException) -> LinkError:
    """Which rung of the way broke."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__ or getattr(chain[-1], "reason", None)) and isinstance(
        cause, BaseException
    ):
        if cause in chain:
            break
        chain.append(cause)
    if isinstance(error, urllib3.exceptions.NameResolutionError) or any(
        isinstance(each, socket.gaierror) for each in chain
    ):
        return NameUnknown("the gateway's name does not resolve")
    if any(isinstance(each, LinkError) for each in chain):
        return next(each for each in chain if isinstance(each, LinkError))
    if any(isinstance(each, ssl.SSLError | urllib3.exceptions.SSLError) for each in chain):
        reason = next((each.reason for each in chain if isinstance(each, ssl.SSLError)), None)
        return TlsFailed(str(reason or "TLS failed"))
    if isinstance(error, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError):
        return GatewayUnreachable(type(error).__name__)
    return NoAnswer(type(error).__name__)
