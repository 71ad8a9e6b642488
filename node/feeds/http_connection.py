"""One HTTP connection of a feed: uvicorn's protocol, with bounds on heads, pipelines, silence, and clients that do not read."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from hl7.fhir_answers import Issue, encode, outcome

HEAD_BYTES_MAX = 32 * 1024  # request line and headers; an assertion or a proxy's headers fit several times
HEAD_S_MAX = 20.0  # from the first byte of a request to the end of its headers
PIPELINED_MAX = 16  # requests of one connection that wait for the one before; clients send one, proxies a few
DISCARDED_BYTES_MAX = (
    4 * 1024 * 1024
)  # of a body that was refused unread: a close at once would take the answer with it
UNREAD_S_MAX = 60.0  # a client that does not read its answer for so long is gone
UPGRADE = re.compile(rb"(?i)\r\nupgrade:[^\r\n]*")
UNREAD_BYTES_MAX = 64 * 1024  # of answers it has not read: the next one waits


class HttpConnection(HttpToolsProtocol):
    """A connection. `joined` and `left` are called with it at its beginning and end."""

    def __init__(
        self,
        config: Config,
        state: ServerState,
        *,
        now: Callable[[], float],
        joined: Callable[["HttpConnection"], None],
        left: Callable[["HttpConnection"], None],
    ) -> None:
        super().__init__(config, state, {}, asyncio.get_running_loop())
        self._now, self._joined, self._left = now, joined, left
        self._in_head = True
        self._head_bytes = 0
        self._idle_since: float | None = now()  # bytes came, or nothing yet, and no request with them
        self._stuck_since: float | None = None
        self._discarded = 0
        self._is_last = False  # no request follows those that are here

    # -- asyncio ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take the connection."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=UNREAD_BYTES_MAX)
        self._joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It ended."""
        self._left(self)
        super().connection_lost(exc)
        self.pipeline.clear()  # nobody is left to answer

    def data_received(self, data: bytes) -> None:
        """Feed the parser. A head without end, and a body that nobody wants, are cut off before they cost more."""
        if self.transport.is_closing():
            return
        if self._in_head:
            data = data if self._head_bytes else _without_upgrade(data)
            self._head_bytes += len(data)
        elif not self.is_busy:
            self._discarded += len(data)
        if self._idle_since is None and not self.is_busy:  # uvicorn stops its own timer at any byte
            self._idle_since = self._now()
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX:
            self.send_400_response("The request's head is too long.")
        elif len(self.pipeline) > PIPELINED_MAX or self._discarded > DISCARDED_BYTES_MAX:
            self.transport.abort()

    def eof_received(self) -> bool:  # type: ignore[override]  # True keeps our side open
        """The client sends no more. One that waits for its answer gets it, over TCP as it is; TLS has no half."""
        whole = self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body
        if not whole or self.scheme == "https":
            return False
        self.cycle.keep_alive = False
        self._is_last = True
        return True

    def pause_writing(self) -> None:
        """The client does not read its answers."""
        super().pause_writing()
        self._stuck_since = self._now()

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        self._stuck_since = None

    # -- uvicorn ------------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._discarded = 0

    def on_headers_complete(self) -> None:
        """The head has ended."""
        self._in_head, self._head_bytes, self._idle_since = False, 0, None
        super().on_headers_complete()
        if self.parser.should_upgrade():  # the parser takes nothing after it
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """What comes next is a head."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request."""
        if self._is_last and not self.pipeline:
            self.transport.close()
        super().on_response_complete()

    def handle_websocket_upgrade(self) -> None:
        """There are no web sockets."""

    def _unsupported_upgrade_warning(self) -> None:
        """An upgrade that is not taken is no event (Java's client asks for h2c each time)."""

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is answered as all that is refused; where an answer is still due, that one, and nothing in its place."""
        if self.pipeline:
            self.transport.abort()
            return
        if self.is_busy and not self.cycle.more_body:
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        media, body = self._refusal(msg)
        head = f"content-type: {media}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[400] + head.encode() + body)
        self.transport.close()

    def _refusal(self, text: str) -> tuple[str, bytes]:
        """The refusal of what is no HTTP, as this kind of feed has it: Content-Type and body."""
        return "application/fhir+json", encode(outcome([Issue("error", "structure", text)]), "json")

    # -- silence ------------------------------------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether a request is being served."""
        return bool(self.pipeline) or (self.cycle is not None and not self.cycle.response_complete)

    def look_at_silence(self, now: float) -> str:
        """End a connection that reads nothing, or does not end a head; the code to tell, or none."""
        if self.transport.is_closing():  # what was written has to leave, and not for ever
            self._stuck_since = self._stuck_since if self._stuck_since is not None else now
        if self._stuck_since is not None and now - self._stuck_since > UNREAD_S_MAX:
            self.transport.abort()
            return "NOD-14"
        if self._idle_since is not None and now - self._idle_since > HEAD_S_MAX and not self.is_busy:
            self.transport.abort()
            return "NOD-15"
        return ""

    def finish(self) -> None:
        """The feed stops: end now if idle, else after the answer."""
        self.shutdown()

    def abort(self) -> None:
        """End at once."""
        self.transport.abort()


def _without_upgrade(data: bytes) -> bytes:
    """A head without its offer of another protocol: we stay with HTTP/1.1 (RFC 9110 7.8), and the parser would drop the body.

    Java's client offers h2c with every first request over plain TCP.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0 or not (found := UPGRADE.search(data, 0, end)):
        return data
    return data[: found.start()] + data[found.end() :]


def make_config(app: Any, *, idle_s_max: int) -> Config:
    """Uvicorn's own settings: nothing of it but the protocol is used, so no signal, no socket and no log is its."""
    config = Config(
        app, ws="none", lifespan="off", log_config=None, log_level="critical", access_log=False, server_header=False, date_header=False, proxy_headers=False,
        timeout_keep_alive=idle_s_max,
    )  # fmt: skip
    config.load()
    return config
