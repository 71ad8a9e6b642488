"""A destination that listens for HL7 v2 over MLLP: one message, its reply, the next one. A reply counts for the message whose MSH-10 it names.

Nothing that came before a message was written is believed about it. Where two messages share an MSH-10, as in many a site they do, the second goes on
a new connection: there no old reply can wait for it.
"""

import fcntl
import socket
import ssl
import struct
import termios
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from hl7.answer import Answer, Hope, Judgement, hope, read_answer
from hl7.errors import NotEr7
from hl7.message import Facts, facts
from hl7.mllp import Decoder, Frame, encode
from node.config.destinations import MllpOut
from node.destinations.errors import LATER, NO_ANSWER, NOT_CONVERTED, NOT_SENDABLE, REFUSED, UNREACHABLE
from node.destinations.errors import TLS as NO_TLS
from node.destinations.plug import ER7, TAKEN, End, Outcome, Outgoing
from node.destinations.tls import client_context
from node.sockets import Way, connect

REPLY_BYTES_MAX = 64 * 1024  # a reply has 100 to 500 bytes, one with a long ERR some thousand
IDS_MAX = 4096  # sent on one connection and remembered: beyond it a new connection costs less than more memory
DRAIN_BYTES_MAX = 1024 * 1024  # of old replies before a message; a peer that has more to say is left alone
BARE_END_S = 0.2  # after a FS: its CR will not come
GRACE_S = 0.5  # for a peer to close after we did; most do at once
SEND_QUEUE_LOOK_S = 0.02  # how often the kernel is asked whether the peer has all

log = structlog.get_logger()


class MllpSink:
    """One connection to one peer. `discarded` counts replies that were for no message on its way."""

    def __init__(
        self, destination: MllpOut, *, monotonic: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep
    ) -> None:  # fmt: skip
        self._to = destination
        self._monotonic, self._sleep = monotonic, sleep
        self._sock: socket.socket | None = None
        self._decoder = Decoder(REPLY_BYTES_MAX)
        self._sent: set[bytes] = set()
        self._last: tuple[str, int, int] | None = None
        self.discarded = 0

    def deliver(self, outgoing: Outgoing) -> Outcome:
        """Send one message and hear what becomes of it."""
        if outgoing.unconverted:
            return Outcome(End.REFUSED, NOT_CONVERTED, outgoing.unconverted)
        try:
            found = facts(outgoing.body)
        except NotEr7:
            return Outcome(End.REFUSED, NOT_CONVERTED if outgoing.content_type != ER7 else NOT_SENDABLE)
        if not _can_be_framed(outgoing.body):
            return Outcome(End.REFUSED, NOT_SENDABLE)
        failure = self.open_for(found.control_id, outgoing)
        if failure is not None:
            return failure
        try:
            outcome = self.exchange(outgoing, found)
        except OSError as error:
            self.close()
            return Outcome(End.LATER, NO_ANSWER, type(error).__name__)
        if self._to.connection == "each" or outcome.code == NO_ANSWER:
            self.close()  # a reply that comes after this is for nobody
        return outcome

    def exchange(self, outgoing: Outgoing, found: Facts) -> Outcome:
        """Write the message on the open connection and wait for its reply. Raises OSError."""
        wanted = hope(found, self._to.acknowledgement)
        self.write(outgoing.body, found.control_id)
        if wanted is Hope.NOTHING:
            return TAKEN if self._is_through() else Outcome(End.LATER, NO_ANSWER)
        answer = self.hear(found.control_id)
        if answer is None:
            return TAKEN if wanted is Hope.ERROR else Outcome(End.LATER, NO_ANSWER)
        return self.judge(answer)

    def read(self, payload: bytes) -> Answer | None:
        """A reply; None for what is none."""
        return read_answer(payload)

    def judge(self, answer: Answer) -> Outcome:
        """What it means."""
        return outcome_of(answer)

    def rest(self) -> None:
        """Nothing is to be sent for a while: the connection stays."""

    def close(self) -> None:
        """Close the connection, if there is one."""
        sock, self._sock = self._sock, None
        self._decoder, self._sent, self._last = Decoder(REPLY_BYTES_MAX), set(), None
        if sock is not None:
            _part(sock)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._sock is not None

    # -- the connection -------------------------------------------------------------------------------------------

    def open_for(self, control_id: bytes, outgoing: Outgoing) -> Outcome | None:
        """Have a connection on which no old reply can be taken for this message's; the outcome where there is none."""
        if self._sock is not None:
            used = control_id in self._sent and outgoing.key != self._last
            if used or len(self._sent) >= IDS_MAX or not self._drain():
                self.close()
        if self._sock is None:
            try:
                self._sock = self._connected()
            except ssl.SSLError as error:
                return Outcome(End.BROKEN, NO_TLS, getattr(error, "reason", None) or "")
            except OSError as error:
                return Outcome(End.BROKEN, UNREACHABLE, type(error).__name__)
        elif self._to.pause_ms:
            self._sleep(self._to.pause_ms / 1000)
        self._last = outgoing.key
        return None

    def _connected(self) -> socket.socket:
        host, port = self._to.address
        context = None if self._to.tls is None else _context(self._to)
        sock = connect(host, port, Way(), float(self._to.connect_s_max))
        if context is None or self._to.tls is None:
            return sock
        try:
            return context.wrap_socket(sock, server_hostname=self._to.tls.server_name or host)
        except OSError as error:
            sock.close()
            if isinstance(error, ssl.SSLError):
                raise
            raise ssl.SSLError(0, "handshake broken off") from error

    def _drain(self) -> bool:
        """Read what came unasked, and forget it; False where the peer closed."""
        assert self._sock is not None  # noqa: S101  # asked for an open connection only
        octets = 0
        try:
            self._sock.setblocking(False)
            while data := self._sock.recv(65536):
                octets += len(data)
                self.discarded += len(self._decoder.receive(data))
                if octets > DRAIN_BYTES_MAX:
                    return False
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    # -- bytes ----------------------------------------------------------------------------------------------------

    def write(self, body: bytes, control_id: bytes) -> None:
        """Send a frame. Raises OSError."""
        assert self._sock is not None  # noqa: S101  # open_for came before
        self._sent.add(control_id)
        self._sock.settimeout(float(self._to.answer_s_max))
        self._sock.sendall(encode(body))

    def hear(self, control_id: bytes) -> Answer | None:
        """Wait for the reply that names this id, all others are forgotten; None where none came in time. Raises OSError."""
        assert self._sock is not None  # noqa: S101  # as above
        deadline = self._monotonic() + self._to.answer_s_max
        while (left := deadline - self._monotonic()) > 0:
            try:
                self._sock.settimeout(min(left, BARE_END_S) if self._decoder.is_open else left)
                data = self._sock.recv(65536)
            except TimeoutError:
                events = self._decoder.idle()
            else:
                if not data:
                    raise ConnectionResetError("closed without a reply")
                events = self._decoder.receive(data)
            found = None
            for event in events:
                answer = self.read(event.payload) if isinstance(event, Frame) else None
                if found is None and answer is not None and answer.control_id == control_id:
                    found = answer
                else:
                    self.discarded += 1
            if found is not None:
                return found
        return None

    def _is_through(self) -> bool:
        """Whether the peer's TCP has confirmed all that was written, in the time of an answer. It asked for no more."""
        assert self._sock is not None  # noqa: S101  # as above
        deadline = self._monotonic() + self._to.answer_s_max
        while self._monotonic() < deadline:
            left = fcntl.ioctl(self._sock.fileno(), termios.TIOCOUTQ, bytes(4))
            if not struct.unpack("i", left)[0]:
                return True
            self._sleep(SEND_QUEUE_LOOK_S)
        return False


def _part(sock: socket.socket) -> None:
    """Close in order: what allows one connection has then seen the end of this one before there is another."""
    with sock, suppress(OSError):
        sock.settimeout(GRACE_S)
        sock.shutdown(socket.SHUT_WR)
        octets = 0
        while (data := sock.recv(65536)) and (octets := octets + len(data)) < DRAIN_BYTES_MAX:
            pass


def outcome_of(answer: Answer) -> Outcome:
    """What a reply means for its message."""
    match answer.judgement:
        case Judgement.TAKEN:
            return TAKEN
        case Judgement.REFUSED:
            return Outcome(End.REFUSED, REFUSED, f"{answer.code} {answer.error}".strip())
        case Judgement.LATER:
            return Outcome(End.LATER, LATER, f"{answer.code} {answer.error}".strip())


def _can_be_framed(body: bytes) -> bool:
    """Whether a frame of these bytes is taken for one frame of these bytes."""
    return Decoder(len(body)).receive(encode(body)) == [Frame(body)]


def _context(destination: MllpOut) -> ssl.SSLContext:
    """Raise ssl.SSLError for whatever is wrong with the files: that is not the peer's being away."""
    assert destination.tls is not None  # noqa: S101  # asked with TLS only
    try:
        return client_context(destination.tls)
    except ssl.SSLError:
        raise
    except OSError as error:
        raise ssl.SSLError(0, f"{type(error).__name__} of the TLS files") from error
