"""One serial port: its own thread reads and writes, opens it again when it was unplugged, and tells its owner on the event loop.

The kernel keeps what a device sends while nobody reads: 4 KiB, and nothing at all while the port is away or this process is not there. Most devices
send once; so whoever owns a port records when it was away.
"""

import asyncio
import contextlib
import fcntl
import os
import select
import socket
import termios
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import serial
import structlog

from node.config.serial import Line
from node.lines.marked_bytes import Unmarker
from node.lines.serial_errors import CannotSet, PortTaken, code_of

READ_BYTES_MAX = 4096  # what the kernel's line discipline holds
# Read but not yet taken by the event loop: 20 s of 115200 baud. Beyond it the thread leaves the bytes to the kernel, whose buffer bounds the rest.
HELD_BYTES_MAX = 256 * 1024
WRITE_BYTES_MAX = (
    256 * 1024
)  # an ASTM frame is 64 kB at most, and a second one is not sent before the first is answered
# A technician who plugs a cable in looks at the page: 2 s is soon, and an open that fails costs a stat.
AGAIN_S_MIN, AGAIN_S_MAX = 0.2, 2.0
# Nothing was taken for so long although the line is open: the device holds it by flow control, or its cable lacks the wire.
STALL_S = 10.0
CONNECT_S_MAX = 5.0  # a device server stands in the same building
STOP_S_MAX = 5.0
KEEPALIVE: Final = {
    socket.TCP_KEEPIDLE: 30,
    socket.TCP_KEEPINTVL: 10,
    socket.TCP_KEEPCNT: 3,
}  # a device server that lost power
PTY_MAJORS: Final = range(136, 144)  # Documentation/admin-guide/devices.txt

PARITIES: Final = {"none": "N", "even": "E", "odd": "O", "mark": "M", "space": "S"}
Open = Callable[[Line], "Device"]

log = structlog.get_logger()


class Owner(Protocol):
    """Who is told, always on the event loop and in order. `at` is monotonic seconds."""

    def opened(self, _at: float, /) -> None:
        """The port is there and ours."""

    def gone(self, _at: float, error: OSError, /) -> None:
        """It cannot be opened, or was unplugged; told once for each reason until it is back (`serial_errors.code_of`)."""

    def received(self, data: bytes, at: float, marks: int, /) -> None:
        """Bytes came, of which `marks` with a wrong parity or stop bit, or as a break."""

    def stalled(self, _at: float, /) -> None:
        """What was written is not taken, for STALL_S."""

    def flowing(self, _at: float, /) -> None:
        """It is taken again."""


class Device(Protocol):
    """An open port: something to poll, and how its bytes are read."""

    is_marking: bool

    def fileno(self) -> int:
        """Its descriptor, not blocking."""

    def close(self) -> None:
        """Close without waiting for what was not sent."""


@dataclass(slots=True)
class Counts:
    """A port's story since the start. `bytes_out` is written under the port's lock, the others by its thread alone."""

    opens: int = 0
    away: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    marks: int = 0


class _Found(serial.Serial):
    """pyserial's port, which remembers how it was set when it was opened."""

    found: list[Any] | None = None

    def _reconfigure_port(self, force_update: bool = False) -> None:  # pyserial's own signature
        if self.found is None:
            with contextlib.suppress(termios.error):  # what cannot be asked is not put back
                self.found = termios.tcgetattr(self.fd)  # type: ignore[arg-type]  # it is open: its settings are asked next
        super()._reconfigure_port(force_update)  # type: ignore[misc]  # its stubs leave it out


class Tty:
    """A port of this machine. pyserial sets it up; reading and writing are ours, so that one poll waits for both."""

    is_marking = True

    def __init__(self, line: Line) -> None:
        try:
            self._port = _Found(
                line.port, line.baud, bytesize=line.bits, parity=PARITIES[line.parity], stopbits=line.stop, timeout=0,
                xonxoff=line.flow == "xonxoff", rtscts=line.flow == "rtscts", dsrdtr=line.flow == "dsrdtr", exclusive=True,
            )  # fmt: skip
        except serial.SerialException as error:
            taken = isinstance(error.__context__, BlockingIOError) or error.errno in {
                16,
                11,
            }  # EBUSY of TIOCEXCL, EAGAIN of flock
            raise (PortTaken if taken else OSError)(error.errno, "in use" if taken else _said(error)) from error
        except (termios.error, ValueError) as error:  # the driver cannot do these settings
            raise CannotSet(22, f"this adapter cannot do {line.shorthand}") from error
        try:
            claim(self.fileno())
            mark_errors(self.fileno())
            is_set = is_pty(self.fileno()) or is_as_asked(self.fileno(), line)
        except (OSError, termios.error) as error:
            self.close()
            raise OSError(5, "went away while it was opened") from error
        if not is_set:
            self.close()
            raise CannotSet(22, f"this adapter cannot do {line.shorthand}")

    def fileno(self) -> int:
        """The descriptor; pyserial opens it not blocking."""
        return self._port.fileno()

    def close(self) -> None:
        """Close; what waits behind a device that holds us by flow control is dropped, or the kernel would wait 30 s for it.

        The port is left as it was found: pyserial's settings let `cat` end at once. But without echo: between the next opening and its settings a
        device would hear its own bytes.
        """
        with contextlib.suppress(OSError, termios.error):
            termios.tcflush(self.fileno(), termios.TCOFLUSH)
        if (found := self._port.found) is not None:
            found[3] &= ~(termios.ECHO | termios.ECHONL)
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(self.fileno(), termios.TCSANOW, found)
        with contextlib.suppress(OSError, termios.error):
            self._port.close()


class Server:
    """The raw TCP port of a serial device server (ser2net, Moxa): socket://HOST:PORT. Its own settings are those of the line."""

    is_marking = False

    def __init__(self, line: Line) -> None:
        url = urlsplit(line.port)
        self._socket = socket.create_connection((url.hostname or "", url.port or 0), CONNECT_S_MAX)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            self._socket.setsockopt(socket.IPPROTO_TCP, option, value)

    def fileno(self) -> int:
        """The connection's descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def open_device(line: Line) -> Device:
    """Open what the line's port names. Raises OSError: PortTaken where another program has it."""
    return Server(line) if line.port.startswith("socket://") else Tty(line)


def claim(descriptor: int) -> None:
    """Let no other program open the port: pyserial's lock is heeded only by programs that ask for one, and any other would steal bytes.

    Not a pseudo-terminal, whose mark outlives a killed process: there it would keep ourselves out.
    """
    if not is_pty(descriptor):
        fcntl.ioctl(descriptor, termios.TIOCEXCL)


def is_pty(descriptor: int) -> bool:
    """Whether it is a pseudo-terminal, which has no wire: any rate and parity is right."""
    return os.major(os.fstat(descriptor).st_rdev) in PTY_MAJORS


def is_as_asked(descriptor: int, line: Line) -> bool:
    """Whether the port has the bits and parity that it was told: some adapters' drivers leave out what they cannot do, and say nothing."""
    flags = termios.tcgetattr(descriptor)[2]
    has_parity, bits = line.parity != "none", getattr(termios, f"CS{line.bits}")
    is_odd = line.parity in {"odd", "mark"}  # mark parity is odd parity with CMSPAR
    return bool(
        flags & termios.CSIZE == bits
        and bool(flags & termios.PARENB) == has_parity
        and (not has_parity or bool(flags & termios.PARODD) == is_odd)
    )


def mark_errors(descriptor: int) -> None:
    """Have the kernel mark each byte that came with a wrong parity or stop bit: what says that baud or parity is wrong."""
    settings = termios.tcgetattr(descriptor)
    settings[0] = (settings[0] | termios.PARMRK | termios.INPCK) & ~(termios.IGNPAR | termios.ISTRIP)
    termios.tcsetattr(descriptor, termios.TCSANOW, settings)


class SerialPort(threading.Thread):
    """Owns one port. Start and stop it from the event loop that its owner lives on."""

    def __init__(
        self, name: str, line: Line, owner: Owner, *, loop: asyncio.AbstractEventLoop, monotonic: Callable[[], float], opener: Open = open_device,
        rest_s: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(name=f"port-{name}", daemon=True)
        self.line, self.counts = line, Counts()
        self._owner, self._loop, self._now, self._opener = owner, loop, monotonic, opener
        self._rest_s = rest_s  # after each read: of a device that waits for no answer, ten small reads cost ten times what one does
        self._lock = threading.Lock()
        self._pending = bytearray()
        self._moved_at = 0.0  # when something was last taken, or was first to be written
        self._held = 0  # bytes on their way to the event loop
        self._descriptor = -1  # while it is open
        self._stopping = False
        self._reason = ""  # why the port is away, as the owner knows it
        self._wake_out, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.is_open = False

    # -- called from the event loop ---------------------------------------------------------------------------------

    def write(self, data: bytes) -> bool:
        """Send now, or what is not taken at once soon; False where the port is away, or the device does not take what waits already."""
        with self._lock:
            if not self.is_open or len(self._pending) + len(data) > WRITE_BYTES_MAX:
                return False
            if not self._pending:
                self._moved_at = self._now()
                data = data[self._put(data) :]
            self._pending += data
        if data or self._rest_s:  # what answers us is read at once
            self._ring()
        return True

    def _put(self, data: bytes | bytearray) -> int:
        """Under the lock: hand bytes to the kernel, which takes as many as it has room for. Of a port that went away the thread hears by itself."""
        try:
            sent = os.write(self._descriptor, data)
        except OSError:
            return 0
        self.counts.bytes_out += sent
        return sent

    async def stop(self) -> None:
        """Close the port, within STOP_S_MAX. What was read has been handed to the owner when this returns."""
        self._stopping = True
        self._ring()
        if self.ident is not None:
            await asyncio.to_thread(self.join, STOP_S_MAX)
        await asyncio.sleep(0)  # what the thread handed over last

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # full: it is awake already
            os.write(self._wake, b"!")

    # -- the thread -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Open, serve until it goes away, open again, until stopped."""
        wait = AGAIN_S_MIN
        while not self._stopping:
            try:
                device = self._opener(self.line)
            except OSError as error:
                self._away(error)
                self._pause(wait)
                wait = min(2 * wait, AGAIN_S_MAX)
                continue
            try:
                self._begin(device)
                self._serve(device)
                wait = AGAIN_S_MIN
            except OSError as error:
                self._end()
                self._away(error)
                self._pause(AGAIN_S_MIN)
            finally:
                self._end()
                device.close()
        os.close(self._wake_out)

    def _begin(self, device: Device) -> None:
        with self._lock:
            self._pending.clear()  # of before: an answer that is late is a wrong one
            self._descriptor, self.is_open = device.fileno(), True
        self.counts.opens += 1
        self._reason = ""
        self._tell(self._owner.opened, self._now())

    def _end(self) -> None:
        with self._lock:  # from now on nobody writes: the number may be another file's
            self.is_open = False

    def _away(self, error: OSError) -> None:
        """Tell it, where the owner does not know it for this reason: an adapter that is back may be another program's."""
        if (reason := code_of(error)) == self._reason:
            return
        self.counts.away += not self._reason
        self._reason = reason
        log.info("port.away", port=self.line.port, error=type(error).__name__, detail=error.strerror)
        self._tell(self._owner.gone, self._now(), error)

    def _serve(self, device: Device) -> None:
        """Wait for bytes, for something to write, or to be woken. Raises OSError when the port goes away."""
        descriptor, unmark = device.fileno(), Unmarker()
        poll = select.poll()
        poll.register(self._wake_out, select.POLLIN)
        is_stalled = False
        while not self._stopping:
            wanted = (select.POLLOUT if self._pending else 0) | (select.POLLIN if self._held < HELD_BYTES_MAX else 0)
            poll.register(descriptor, wanted)
            ready = dict(poll.poll(1000 * STALL_S))
            if self._wake_out in ready:
                os.read(self._wake_out, READ_BYTES_MAX)
            if ready.get(descriptor, 0) & select.POLLOUT:
                self._write()
            if ready.get(descriptor, 0) & ~select.POLLOUT:
                self._read(descriptor, unmark if device.is_marking else None)
                if self._rest_s and not self._pending:
                    self._pause(
                        self._rest_s - self._now() % self._rest_s
                    )  # all ports at once: then one commit is enough for what they brought
            late = bool(self._pending) and self._now() - self._moved_at >= STALL_S
            if late is not is_stalled:
                self._tell(self._owner.stalled if late else self._owner.flowing, self._now())
            is_stalled = late

    def _read(self, descriptor: int, unmark: Unmarker | None) -> None:
        data, at = os.read(descriptor, READ_BYTES_MAX), self._now()
        if not data:
            raise OSError(5, "hung up")
        marks = 0
        if unmark is not None:
            data, marks = unmark.receive(data)
        self.counts.bytes_in += len(data)
        self.counts.marks += marks
        if data:
            with self._lock:
                self._held += len(data)
            self._tell(self._take, data, at, marks)

    def _write(self) -> None:
        with self._lock:
            sent = self._put(self._pending)
            del self._pending[:sent]
            if sent:
                self._moved_at = self._now()

    def _take(self, data: bytes, at: float, marks: int) -> None:
        """On the event loop: the owner has them, and the thread may read on."""
        with self._lock:
            was_full = self._held >= HELD_BYTES_MAX
            self._held -= len(data)
        if was_full:
            self._ring()
        self._owner.received(data, at, marks)

    def _tell(self, what: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(what, *arguments)

    def _pause(self, wait_s: float) -> None:
        """Wait, or be woken."""
        poll = select.poll()  # select() knows no descriptor above 1023
        poll.register(self._wake_out, select.POLLIN)
        if not self._stopping and poll.poll(1000 * wait_s):
            os.read(self._wake_out, READ_BYTES_MAX)


def _said(error: serial.SerialException) -> str:
    """What the system said, without pyserial's own words around it."""
    inner = error.__context__
    return (inner.strerror or "") if isinstance(inner, OSError) else str(error.strerror or error)
