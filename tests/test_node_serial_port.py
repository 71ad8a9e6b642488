"""One serial port: bytes as they came, unplugged and back, alone, and closed in time. socat's pseudo-terminals are the cable."""

import asyncio
import fcntl
import os
import socket
import termios
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from node.config import serial as config_serial
from node.config.serial import Line, Serial
from node.lines.marked_bytes import Unmarker
from node.lines.serial_errors import CannotSet, PortTaken
from node.lines.serial_port import HELD_BYTES_MAX, SerialPort, Server, Tty, claim, open_device
from tests.node_rig import WAIT_S_MAX
from tests.serial_rig import Cable


class Owner:
    """Remembers what it was told, in order."""

    def __init__(self) -> None:
        self.story: list[str] = []
        self.data = b""
        self.marks = 0
        self.errors: list[OSError] = []

    def opened(self, at: float) -> None:
        self.story.append("opened")

    def gone(self, at: float, error: OSError) -> None:
        self.story.append("gone")
        self.errors.append(error)

    def received(self, data: bytes, at: float, marks: int) -> None:
        self.data += data
        self.marks += marks

    def stalled(self, at: float) -> None:
        self.story.append("stalled")

    def flowing(self, at: float) -> None:
        self.story.append("flowing")


async def until(what: str, found: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not found():
        assert time.monotonic() < deadline, f"never came: {what}"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def running(line: Line, **how: object) -> AsyncIterator[tuple[SerialPort, Owner]]:
    owner = Owner()
    port = SerialPort("test", line, owner, loop=asyncio.get_running_loop(), monotonic=time.monotonic, **how)  # type: ignore[arg-type]
    port.start()
    try:
        yield port, owner
    finally:
        await port.stop()


# -- the thread --------------------------------------------------------------------------------------------------------
def test_every_byte_value_comes_through_a_port_and_goes_out_of_it_unaltered(tmp_path):
    every = bytes(range(256)) * 40  # XON, XOFF, EOT, 0xFF, CR and LF are what terminals meddle with

    async def scene() -> None:
        with Cable(tmp_path) as cable:
            async with running(Line(port=str(cable.near))) as (port, owner):
                await until("open", lambda: owner.story)
                await asyncio.to_thread(cable.send, every)
                await until("all bytes", lambda: len(owner.data) >= len(every))
                assert owner.data == every
                assert port.write(every)
                assert await asyncio.to_thread(cable.receive, len(every)) == every
                assert (port.counts.bytes_in, port.counts.bytes_out, port.counts.marks) == (len(every), len(every), 0)

    asyncio.run(scene())


def test_a_port_that_rests_between_reads_loses_nothing_and_sends_at_once(tmp_path):
    async def scene() -> None:
        with Cable(tmp_path) as cable:
            async with running(Line(port=str(cable.near)), rest_s=10 * WAIT_S_MAX) as (port, owner):
                await until("open", lambda: owner.story)
                await asyncio.to_thread(cable.send, b"first")
                await until("the first read", lambda: owner.data)
                await asyncio.to_thread(cable.send, b" and " + b"x" * 3000)
                assert port.write(b"?")  # ends the rest
                assert await asyncio.to_thread(cable.receive, 1) == b"?"
                await until("all bytes", lambda: owner.data == b"first and " + b"x" * 3000)

    asyncio.run(scene())


def test_a_port_that_was_unplugged_is_told_once_and_used_again_when_it_is_back(tmp_path):
    async def scene() -> None:
        cable = Cable(tmp_path)
        async with running(Line(port=str(cable.near))) as (port, owner):
            await until("told away", lambda: owner.story == ["gone"])  # not there yet at the start
            for turn in range(3):
                cable.plug()
                await until("open", lambda: port.is_open)
                await asyncio.to_thread(cable.send, b"%d" % turn)
                await until("bytes", lambda at=turn: len(owner.data) > at)
                cable.pull()
                await until("away", lambda: owner.story[-1] == "gone")
                assert not port.write(b"nobody is there")
            assert owner.data == b"012"
            assert owner.story == ["gone", *(["opened", "gone"] * 3)]

    asyncio.run(scene())


def test_a_port_that_is_away_for_another_reason_than_before_is_told_again(tmp_path):
    reasons = [
        OSError(2, "none"),
        OSError(5, "went away"),
        PortTaken(11, "in use"),
        PortTaken(11, "in use"),
        OSError(2, "none"),
    ]

    def opener(_line: Line) -> Tty:
        raise reasons.pop(0) if len(reasons) > 1 else reasons[0]

    async def scene() -> None:
        async with running(Line(port="/dev/serial/by-id/none"), opener=opener) as (port, owner):
            await until("told", lambda: len(owner.errors) == 3)
            assert [isinstance(error, PortTaken) for error in owner.errors] == [False, True, False]
            assert port.counts.away == 1

    asyncio.run(scene())


def test_a_device_that_takes_nothing_is_told_and_told_again_when_it_does(tmp_path, monkeypatch):
    monkeypatch.setattr("node.lines.serial_port.STALL_S", 0.2)
    sent = bytes(100_000)  # more than the kernel holds for a device that does not read

    async def scene() -> None:
        with Cable(tmp_path) as cable:
            async with running(Line(port=str(cable.near))) as (port, owner):
                await until("open", lambda: owner.story)
                assert port.write(sent)
                await until("stalled", lambda: owner.story[-1] == "stalled")
                assert await asyncio.to_thread(cable.receive, len(sent)) == sent
                await until("flowing", lambda: owner.story == ["opened", "stalled", "flowing"])

    asyncio.run(scene())


def test_a_second_owner_of_a_port_is_refused_and_told_that_it_is_taken(tmp_path):
    async def scene() -> None:
        with Cable(tmp_path) as cable:
            async with running(Line(port=str(cable.near))) as (_, owner):
                await until("open", lambda: owner.story)
                with pytest.raises(PortTaken):
                    open_device(Line(port=str(cable.near)))
                async with running(Line(port=str(cable.near))) as (_, second):
                    await until("refused", lambda: second.story)
                    assert isinstance(second.errors[0], PortTaken)

    asyncio.run(scene())


def test_a_port_is_claimed_against_programs_that_heed_no_lock(tmp_path):
    with Cable(tmp_path) as cable:
        descriptor = os.open(cable.near, os.O_RDWR | os.O_NOCTTY)
        calls: list[int] = []
        with (
            pytest.MonkeyPatch.context() as patch
        ):  # a pseudo-terminal is not claimed, so here it is called something else
            claim(descriptor)
            patch.setattr("node.lines.serial_port.PTY_MAJORS", range(0))
            claim(descriptor)
        exclusive = fcntl.ioctl(descriptor, 0x80045440, b"\0\0\0\0")  # TIOCGEXCL
        calls.append(int.from_bytes(exclusive, "little"))
        fcntl.ioctl(descriptor, termios.TIOCNXCL)
        os.close(descriptor)
        assert calls == [1]


def test_a_port_that_hangs_in_its_driver_does_not_keep_the_event_loop(tmp_path):
    async def scene() -> None:
        release = threading.Event()

        def hang(_line: Line) -> Tty:
            release.wait(WAIT_S_MAX)
            raise OSError(5, "gone")

        turns = 0
        async with running(Line(port="/dev/serial/by-id/none"), opener=hang):
            for _ in range(10):
                await asyncio.sleep(0)
                turns += 1
            release.set()
        assert turns == 10

    asyncio.run(scene())


def test_what_the_loop_has_not_taken_is_bounded_and_nothing_of_it_is_lost(tmp_path):
    async def scene() -> None:
        with Cable(tmp_path) as cable:
            async with running(Line(port=str(cable.near))) as (port, owner):
                await until("open", lambda: owner.story)
                sent = os.urandom(1024) * 600  # more than may be held
                sender = threading.Thread(target=cable.send, args=(sent,), daemon=True)
                sender.start()
                deadline = time.monotonic() + WAIT_S_MAX
                while port.counts.bytes_in < HELD_BYTES_MAX:  # the loop stands still meanwhile
                    assert time.monotonic() < deadline
                    time.sleep(0.01)  # noqa: ASYNC251
                assert port.counts.bytes_in < HELD_BYTES_MAX + 8192
                await until("all bytes", lambda: len(owner.data) == len(sent))
                sender.join()
                assert owner.data == sent

    asyncio.run(scene())


def test_a_port_is_left_as_it_was_found_but_for_the_echo(tmp_path):
    with Cable(tmp_path) as cable:
        other = os.open(cable.near, os.O_RDWR | os.O_NOCTTY)
        found = termios.tcgetattr(other)
        found[3] |= termios.ECHO | termios.ICANON
        found[4] = found[5] = termios.B2400
        found[6][termios.VMIN], found[6][termios.VTIME] = b"\x03", b"\x00"
        termios.tcsetattr(other, termios.TCSANOW, found)
        found = termios.tcgetattr(other)
        device = Tty(Line(port=str(cable.near)))
        assert termios.tcgetattr(other) != found
        device.close()
        found[3] &= ~termios.ECHO
        assert termios.tcgetattr(other) == found
        os.close(other)


def test_a_device_server_is_a_port_and_its_return_is_one(tmp_path):
    async def scene() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            line = Line(port=f"socket://127.0.0.1:{server.getsockname()[1]}")
            async with running(line) as (port, owner):
                for turn in range(2):
                    peer, _ = await asyncio.to_thread(server.accept)
                    peer.sendall(b"\xff\x00%d" % turn)  # no marks are made or read on a network
                    await until("bytes", lambda at=turn: len(owner.data) == 3 * (at + 1))
                    assert port.write(b"\x06")
                    assert await asyncio.to_thread(peer.recv, 9) == b"\x06"
                    peer.close()
                    await until("away", lambda: owner.story[-1] == "gone")
            assert owner.data == b"\xff\x000\xff\x001"

    asyncio.run(scene())


def test_settings_that_a_port_cannot_do_are_an_error_and_leave_no_descriptor_open(tmp_path, monkeypatch):
    with Cable(tmp_path) as cable:
        before = len(list(Path("/proc/self/fd").iterdir()))
        monkeypatch.setattr(
            "node.lines.serial_port.PTY_MAJORS", range(0)
        )  # whose driver leaves out what it cannot do, as some adapters' do
        with pytest.raises(CannotSet, match="cannot do 9600 7E1"):
            Tty(Line(port=str(cable.near), bits=7, parity="even"))
        assert len(list(Path("/proc/self/fd").iterdir())) == before
    with pytest.raises(ConnectionRefusedError), socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        server.close()
        Server(Line(port=f"socket://{address[0]}:{address[1]}"))


# -- marks -------------------------------------------------------------------------------------------------------------
def marked(line: list[tuple[int, bool]]) -> bytes:
    """As the kernel writes it (n_tty): wrong bytes behind a mark, 0xFF doubled."""
    return b"".join(
        b"\xff\x00" + bytes([byte]) if wrong else (b"\xff\xff" if byte == 0xFF else bytes([byte]))
        for byte, wrong in line
    )


@given(st.lists(st.tuples(st.sampled_from([0, 1, 0x41, 0xFE, 0xFF]), st.booleans())), st.randoms(use_true_random=False))
def test_marks_are_undone_however_the_bytes_are_cut(line, dice):
    data, unmark, plain, marks = marked(line), Unmarker(), b"", 0
    while data:
        at = dice.randint(1, len(data))
        found, count = unmark.receive(data[:at])
        plain, marks, data = plain + found, marks + count, data[at:]
    assert plain == bytes(byte for byte, _ in line)
    assert marks == sum(wrong for _, wrong in line)


# -- configuration -----------------------------------------------------------------------------------------------------
def test_a_port_by_number_is_refused_and_the_present_names_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(config_serial, "BY_ID", tmp_path)
    (tmp_path / "usb-FTDI_FT232R_A10KAB5X-if00-port0").symlink_to("/dev/null")
    for number in ("/dev/ttyUSB0", "/dev/ttyACM12"):
        with pytest.raises(ValidationError, match=r"after a restart.*usb-FTDI_FT232R_A10KAB5X-if00-port0"):
            Serial(port=number)
    assert Serial(port="/dev/ttyS0").port == "/dev/ttyS0"  # soldered to the board


@pytest.mark.parametrize("port", ["ttyS0", "", "socket://", "socket://host", "socket://host:0", "socket://h:1/x", "socket://h:x", "/dev/tty\n"])  # fmt: skip
def test_what_names_no_port_is_refused(port):
    with pytest.raises(ValidationError):
        Serial(port=port)


@pytest.mark.parametrize("wrong", [{"baud": 9601}, {"baud": "9600"}, {"baud": True}, {"bits": 9}, {"parity": "odds"}, {"stop": 3}, {"flow": "yes"}])  # fmt: skip
def test_a_setting_that_no_port_has_is_refused(wrong):
    with pytest.raises(ValidationError):
        Serial(port="/dev/ttyS0", **wrong)


def test_the_files_own_settings_win_over_the_profiles_and_those_over_9600_8n1():
    assert Serial(port="/dev/ttyS0").line() == Line(port="/dev/ttyS0")
    assert Serial(port="/dev/ttyS0").line().shorthand == "9600 8N1"
    profile = {"baud": 19200, "parity": "even", "bits": 7}
    assert Serial(port="/dev/ttyS0", parity="odd").line(profile).shorthand == "19200 7O1"
    with pytest.raises(ValueError, match="must be one of"):
        Serial(port="/dev/ttyS0").line({"baud": 1})
