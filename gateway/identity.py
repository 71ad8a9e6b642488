"""Who calls: the verified client certificate, from the socket into the request; and the validity list that may take it back."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from cryptography import x509
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.cork import hold_back
from gateway.errors import BadSetup
from gateway.marks import mark_of
from gateway.problems import Problem
from sync.certificates import node_of, read, read_validity
from sync.errors import BadCertificate

HEAD_BYTES_MAX = 32 * 1024  # request line and headers; a bearer token and some proxies' headers fit ten times over
HEAD_S_MAX = 20.0  # from the connection, or the request's first byte, to the end of its headers; a 64 kbit/s link needs under one
CLOSE_S_MAX = 0.5  # for the peer to take our last bytes when the gateway stops
VALIDITY_BYTES_MAX = 16 * 1024 * 1024  # some 400,000 revoked certificates
log = structlog.get_logger()


@dataclass(slots=True)
class Peer:
    """The other end of a connection: its verified certificate (DER; empty without mutual TLS), since when (monotonic seconds), and its mark."""

    certificate: bytes
    connected_at: float
    dscp: int | None = None
    parsed: x509.Certificate | None = None

    def x509(self) -> x509.Certificate:
        """The certificate, parsed once a connection. Raises BadCertificate."""
        if self.parsed is None:
            self.parsed = read(self.certificate)
        return self.parsed


class PeerProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with the peer in each request's state, and a bound on a request's head in bytes and time."""

    _peer: Peer
    _head_timer: asyncio.TimerHandle | None = None
    _in_head = True
    _ending = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Read the certificate that the handshake verified."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        certificate = (tls.getpeercert(binary_form=True) if tls is not None else None) or b""
        self._peer = Peer(certificate, time.monotonic(), mark_of(transport))
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._unwatch_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a head without end is cut off before it fills the memory."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self.send_400_response("Request head too long.")

    def on_message_begin(self) -> None:
        """Put the peer into the request's state."""
        super().on_message_begin()
        self.scope["state"]["peer"] = self._peer
        if self._head_timer is None:
            self._watch_head()

    def on_headers_complete(self) -> None:
        """The head has ended."""
        self._in_head = False
        self._unwatch_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next request's head may begin. A node's answer is one write of two; consumers' are streams."""
        if self._peer.certificate:
            hold_back(self.transport, held=True)
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def shutdown(self) -> None:
        """The gateway stops: end this connection now if it is idle, else after its answer."""
        self._ending = True
        super().shutdown()
        if self.transport.is_closing():
            self._cut_off()

    def on_response_complete(self) -> None:
        """Go on with the next request, or end."""
        hold_back(self.transport, held=False)
        super().on_response_complete()
        if self._ending:
            self.transport.close()
            self._cut_off()

    def _cut_off(self) -> None:
        # close() sends TLS close_notify and waits for the peer's: an idle client reads it only at its next call
        self.loop.call_later(CLOSE_S_MAX, self.transport.abort)

    def _watch_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S_MAX, self.transport.close)

    def _unwatch_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class ValidityList:
    """The authority's X.509 CRL in force: read again when its file changes; the last good one stays in force, however old."""

    def __init__(self, path: Path | None, anchor: x509.Certificate, alarm: Callable[[str], None]) -> None:
        self._path, self._anchor, self._alarm = path, anchor, alarm
        self._stamp: tuple[int, int] | None = None
        self._list: x509.CertificateRevocationList | None = None
        self._serials: frozenset[int] = frozenset()
        self._data = b""
        if path is not None and not self._refresh():
            raise BadSetup(f"validity list {path} cannot be read, or is not the authority's")

    @property
    def data(self) -> bytes:
        """The list in force, DER; empty where none is configured."""
        self._refresh()
        return self._data

    @property
    def serials(self) -> frozenset[int]:
        """Of the certificates that the list in force names."""
        self._refresh()
        return self._serials

    def revokes(self, certificate: x509.Certificate) -> bool:
        """Whether the list in force names this certificate."""
        self._refresh()
        return certificate.serial_number in self._serials

    def is_stale(self, now_s: float) -> bool:
        """Whether its next update has passed: an alarm, never a refusal. False where no list is configured."""
        self._refresh()
        due = self._list.next_update_utc if self._list is not None else None
        return due is not None and due.timestamp() < now_s

    def _refresh(self) -> bool:
        """Read the file if it changed. False, and an alarm, where the new one is no good."""
        if self._path is None or self._stat(self._path) == self._stamp:
            return True
        self._stamp = self._stat(self._path)
        try:
            with self._path.open("rb") as file:
                data = file.read(VALIDITY_BYTES_MAX + 1)
            if len(data) > VALIDITY_BYTES_MAX:
                raise BadCertificate("validity list too long")
            fresh = read_validity(data, self._anchor)
        except (OSError, BadCertificate) as error:
            log.error("validity list not read", path=str(self._path), error=str(error))  # noqa: TRY400  # no traceback: the text says it
            self._alarm("GWY-13")
            return False
        self._list, self._data, self._serials = fresh, data, frozenset(entry.serial_number for entry in fresh)
        log.info("validity list read", entries=len(self._serials))
        return True

    @staticmethod
    def _stat(path: Path) -> tuple[int, int]:
        try:
            found = path.stat()
        except OSError:
            return (0, 0)
        return (found.st_mtime_ns, found.st_size)


def caller(state: Any, validity: ValidityList, now_s: float) -> tuple[str, float]:
    """The calling node and since when it is connected, from a request's state. Raises Problem 403 for a certificate that is not good any more."""
    peer: Peer = state.peer
    try:
        certificate = peer.x509()
        node = node_of(certificate)
    except BadCertificate as error:
        raise Problem(403, "not-a-node", str(error)) from error
    if validity.revokes(certificate):
        raise Problem(403, "revoked", "this certificate is on the validity list")
    # a connection, or a resumed session, may outlive the certificate that opened it
    if certificate.not_valid_after_utc.timestamp() < now_s:
        raise Problem(403, "expired", "this certificate has expired")
    return node, peer.connected_at
