"""One Modbus line as a thread uses it: ask, and get registers or one of four failures. After every failure of the line it is opened anew.

pymodbus frames and checks; its own waiting is replaced: it goes by the wall clock, and a clock set back would make a wait as long as the jump.
"""

import fcntl
import logging
import termios
import time
from contextlib import suppress
from typing import Any, ClassVar, Final, NoReturn
from urllib.parse import urlsplit

from pymodbus import FramerType
from pymodbus.client import ModbusSerialClient, ModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusException
from pymodbus.pdu import ModbusPDU

from hl7.devices.modbus_poll import BITS, Request, is_plausible
from node.config.modbus import Modbus
from node.config.serial import Line
from node.lines.serial_port import PARITIES

READ_BYTES: Final = 4096  # a reply has 260 at most
# A reply that comes after its time-out must not be taken for the next one's: RTU replies name no address. Whoever is that late is silent after it.
QUIET_S: Final = 0.1
# what it logs holds the bytes of replies
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL + 1)


class PollError(Exception):
    """No registers; `cause` is the code that says why."""

    cause: ClassVar[str] = "MOD-01"


class NoAnswer(PollError):
    """Nothing came in time."""


class Declined(PollError):
    """The device answered with an exception."""

    cause = "MOD-02"


class LineAway(PollError):
    """The line cannot be opened, or went away."""

    cause = "MOD-03"


class BrokenReply(PollError):
    """Bytes came, and they are no reply to the question."""

    cause = "MOD-04"


class _Serial(ModbusSerialClient):
    """A serial line that waits by a clock that only goes forward."""

    octets = 0

    def connect(self) -> bool:
        """Open the port for us alone."""
        if self.socket is None and super().connect() and (descriptor := getattr(self.socket, "fd", None)) is not None:
            with suppress(OSError, termios.error):
                fcntl.ioctl(descriptor, termios.TIOCEXCL)  # the flock alone does not stop a program that asks for none
        return self.socket is not None

    def recv(self, _size: int | None) -> bytes:
        """What came; nothing where nothing came in time."""
        if self.socket is None:
            raise ConnectionException("closed")
        try:
            data: bytes = self.socket.read(1)
            if data:
                data += self.socket.read(self.socket.in_waiting)
        except OSError:
            self.close()  # type: ignore[no-untyped-call]
            raise ConnectionException("gone") from None
        self.octets += len(data)
        return data


class _Tcp(ModbusTcpClient):
    """A TCP connection that waits by a clock that only goes forward."""

    octets = 0

    def recv(self, _size: int | None) -> bytes:
        """What came; nothing where nothing came in time."""
        if self.socket is None:
            raise ConnectionException("closed")
        self.socket.settimeout(self.comm_params.timeout_connect)
        try:
            data = self.socket.recv(READ_BYTES)
        except TimeoutError:
            return b""
        except OSError:
            data = b""
        if not data:
            self.close()  # type: ignore[no-untyped-call]
            raise ConnectionException("gone")
        self.octets += len(data)
        return data


class Client:
    """Asks on one line. Not for several threads."""

    def __init__(self, feed: Modbus, line: Line | None) -> None:
        """`line`: how a serial one is set, every key settled."""
        wait_s = feed.answer_ms_max / 1000
        self._is_serial = False
        self._client: _Serial | _Tcp
        if feed.tcp is not None:
            self._client = _Tcp(feed.tcp.host, port=feed.tcp.port, timeout=wait_s, retries=0)
        elif line is not None and line.port.startswith("socket://"):
            url = urlsplit(line.port)
            self._client = _Tcp(
                url.hostname or "", port=url.port or 0, framer=FramerType.RTU, timeout=wait_s, retries=0
            )
        elif line is not None:
            self._is_serial = True
            self._client = _Serial(
                line.port, baudrate=line.baud, bytesize=line.bits, parity=PARITIES[line.parity], stopbits=int(line.stop), timeout=wait_s, retries=0
            )  # fmt: skip

    def ask(self, request: Request) -> tuple[int, ...]:
        """The registers, or bits as 0 and 1. Raises PollError."""
        try:
            if not self._client.connected and not self._client.connect():
                raise LineAway("cannot be opened")
        except ValueError as error:
            raise LineAway("cannot be opened") from error
        self._client.octets = 0
        try:
            reply = self._execute(request)
        except (
            ConnectionException,
            ValueError,
        ) as error:  # a ValueError: pyserial's select() knows no descriptor above 1023
            self.close()
            raise LineAway("went away") from error
        except (ModbusException, OSError) as error:
            self._fail(error)
        if reply.isError():
            raise Declined(str(getattr(reply, "exception_code", "")))
        found = reply.bits[: request.count] if request.function in BITS else reply.registers
        registers = tuple(map(int, found))
        if reply.function_code != _FUNCTION_CODES[request.function] or not is_plausible(request, registers):
            self._fail(None)
        return registers

    def close(self) -> None:
        """Close the line; the next question opens it."""
        with suppress(OSError):
            self._client.close()  # type: ignore[no-untyped-call]

    def _execute(self, request: Request) -> ModbusPDU:
        ask: Any = {
            "coils": self._client.read_coils, "discrete": self._client.read_discrete_inputs, "holding": self._client.read_holding_registers,
            "input": self._client.read_input_registers,
        }[request.function]  # fmt: skip
        reply: ModbusPDU = ask(request.address, count=request.count, device_id=request.unit)
        return reply

    def _fail(self, error: Exception | None) -> NoReturn:
        """Close the line, so that nothing of this question is left in it: over TCP the transaction numbers would stay off by one for ever."""
        octets = self._client.octets
        if self._is_serial:
            time.sleep(QUIET_S)
        self.close()
        raise (BrokenReply(f"{octets} bytes") if octets else NoAnswer("in time")) from error


_FUNCTION_CODES: Final = {"coils": 1, "discrete": 2, "holding": 3, "input": 4}
