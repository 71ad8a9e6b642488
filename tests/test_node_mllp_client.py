"""The MLLP sender against a receiver that loses, delays and garbles its replies."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import pytest

from node.tools.hospital import Kind, Sent
from node.tools.mllp_client import (
    MllpClient,
    NoReplyError,
    StoppedError,
    control_id_of,
    parse_address,
    read_reply,
    simulate,
)

HEAD = b"MSH|^~\\&|HIS-SIM|WADI-NOOR|WASL|NHR|20260301||ADT^A08|"
FIRST, SECOND = HEAD + b"1-0-000001|T|2.5.1\rPID|1\r", HEAD + b"1-0-000002|T|2.5.1\rPID|1\r"

Answer = Callable[[bytes, int], bytes | None]  # (payload, how many came before) -> bytes to write; None: hang up


def ack(payload: bytes, code: bytes = b"AA") -> bytes:
    return reply(control_id_of(payload), code)


def reply(control_id: bytes, code: bytes = b"AA") -> bytes:
    return (
        b"\x0bMSH|^~\\&|WASL|NHR|HIS-SIM|WADI-NOOR|20260301||ACK|9|T|2.5.1\rMSA|"
        + code
        + b"|"
        + control_id
        + b"\r\x1c\r"
    )


class Receiver:
    """One listening socket; each frame that arrives is noted and answered by `answer`."""

    def __init__(self, answer: Answer, write_bytes: int) -> None:
        self.frames: list[bytes] = []
        self.connections = 0
        self._answer = answer
        self._write_bytes = write_bytes
        self._closing = Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self._thread = Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                if self._closing.is_set():
                    return
                self.connections += 1
                connection.settimeout(20)
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        buffer = b""
        while data := connection.recv(65_536):
            buffer += data
            while b"\x1c\r" in buffer:
                frame, _, buffer = buffer.partition(b"\x1c\r")
                assert frame[:1] == b"\x0b"
                self.frames.append(frame[1:])
                answer = self._answer(frame[1:], len(self.frames) - 1)
                if answer is None:
                    return
                for at in range(0, len(answer), self._write_bytes):
                    connection.sendall(answer[at : at + self._write_bytes])

    def close(self) -> None:
        self._closing.set()
        with socket.create_connection(self.address):  # wakes accept
            self._thread.join()
        self._listener.close()


@contextmanager
def receiver(answer: Answer, *, write_bytes: int = 65_536) -> Iterator[Receiver]:
    running = Receiver(answer, write_bytes)
    try:
        yield running
    finally:
        running.close()


def test_reply_code_is_returned_and_the_connection_is_kept():
    codes = [b"AA", b"AE", b"AR"]
    with receiver(lambda payload, n: ack(payload, codes[n])) as peer, MllpClient(peer.address) as client:
        assert [client.send(FIRST), client.send(SECOND), client.send(FIRST)] == ["AA", "AE", "AR"]
        client.close()
    assert (peer.connections, client.frames_sent, client.strays) == (1, 3, 0)


def test_a_lost_reply_brings_the_same_bytes_again():
    answers: Answer = lambda payload, n: None if n < 2 else ack(payload)  # noqa: E731
    with receiver(answers) as peer, MllpClient(peer.address, retry_pause_s=0.01) as client:
        assert client.send(FIRST) == "AA"
        client.close()
    assert peer.frames == [FIRST] * 3
    assert peer.connections == 3


def test_a_reply_that_never_comes_brings_the_same_bytes_again():
    answers: Answer = lambda payload, n: b"" if n == 0 else ack(payload)  # noqa: E731
    with receiver(answers) as peer, MllpClient(peer.address, reply_wait_s=0.2, retry_pause_s=0.01) as client:
        assert client.send(FIRST) == "AA"
        client.close()
    assert peer.frames == [FIRST] * 2


def test_a_late_reply_to_another_message_does_not_confirm_this_one():
    late = reply(b"1-0-000001")
    answers: Answer = lambda payload, n: late if n == 0 else ack(payload, b"AE")  # noqa: E731
    with receiver(answers) as peer, MllpClient(peer.address, reply_wait_s=0.2, retry_pause_s=0.01) as client:
        assert client.send(SECOND) == "AE"
        client.close()
    assert peer.frames == [SECOND] * 2
    assert client.strays == 1


def test_strays_before_the_reply_are_passed_over_on_the_same_connection():
    junk = b"noise\x0bHTTP/1.1 400\x1c\r\x0bMSH|^~\\&|NO MSA\r\x1c\r" + reply(b"other")
    with receiver(lambda payload, _: junk + ack(payload)) as peer, MllpClient(peer.address) as client:
        assert client.send(FIRST) == "AA"
        client.close()
    assert (peer.connections, client.strays) == (1, 3)


def test_a_reply_in_single_bytes_is_understood():
    with receiver(lambda payload, _: ack(payload), write_bytes=1) as peer, MllpClient(peer.address) as client:
        assert [client.send(FIRST), client.send(SECOND)] == ["AA", "AA"]
        client.close()
    assert (peer.connections, client.strays) == (1, 0)


def test_a_reply_without_its_last_cr_is_taken():
    with receiver(lambda payload, _: ack(payload)[:-1]) as peer, MllpClient(peer.address) as client:
        assert client.send(FIRST) == "AA"
        client.close()
    assert peer.frames == [FIRST]


def test_a_message_without_msh_is_confirmed_by_an_empty_control_id():
    with receiver(lambda _payload, _n: reply(b"other") + reply(b"")) as peer, MllpClient(peer.address) as client:
        assert client.send(b"PID|1||no header") == "AA"
        client.close()


def test_attempts_can_be_limited():
    with receiver(lambda _payload, _n: None) as peer:
        client = MllpClient(peer.address, retry_pause_s=0.01, attempts_max=3)
        with pytest.raises(NoReplyError, match="3 attempts"):
            client.send(FIRST)
    assert peer.frames == [FIRST] * 3


def test_nobody_listening_is_retried_until_stopped():
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    stop = Event()
    stop.set()
    with MllpClient(address, stop=stop) as client, pytest.raises(StoppedError):
        client.send(FIRST)


def test_a_stop_ends_the_wait_for_a_reply():
    stop = Event()

    def answers(_payload: bytes, _n: int) -> bytes:
        stop.set()
        return b""

    with receiver(answers) as peer, MllpClient(peer.address, stop=stop, reply_wait_s=60) as client:
        with pytest.raises(StoppedError):
            client.send(FIRST)
        client.close()


@pytest.mark.parametrize(
    ("text", "address"),
    [("localhost:2575", ("localhost", 2575)), ("[::1]:1", ("::1", 1)), ("10.0.0.1:65535", ("10.0.0.1", 65_535))],
)
def test_an_address_is_host_and_port(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "localhost", ":2575", "h:", "h:0", "h:65536", "h:x", "::1:2575", "h:-1"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match="not host:port"):
        parse_address(text)


@pytest.mark.parametrize(
    ("raw", "control_id"),
    [
        (FIRST, b"1-0-000001"),
        (b"MSH#*~\\&#A#B#C#D#T##ADT#X 7#P#2.5\n", b"X 7"),
        (b"MSH|^~\\&|A", b""),
        (b"MSH", b""),
        (b"PID|1|2|3|4|5|6|7|8|9|10", b""),
        (b"", b""),
    ],
)
def test_control_id_is_read_with_the_messages_own_separator(raw, control_id):
    assert control_id_of(raw) == control_id


def test_what_is_no_acknowledgement_is_not_read_as_one():
    for payload in (b"", b"MSH", b"hello", b"MSA|AA|1", FIRST, b"MSH|^~\\&|\rMSA"):
        assert read_reply(payload) is None
    short = read_reply(b"MSH|^~\\&|\r\nMSA|AA")
    assert short is not None
    assert (short.ack_code, short.control_id) == ("AA", b"")


def test_a_simulated_hospital_sends_its_count_and_tells_each_reply():
    told: list[tuple[Sent, str]] = []
    codes = [b"AA", b"AA", b"AE"]
    with receiver(lambda payload, n: ack(payload, codes[n % 3])) as peer:
        host, port = peer.address
        tally = simulate(
            f"{host}:{port}",
            rate_per_s=1_000_000,
            count=9,
            seed=5,
            run=1,
            kinds=(Kind.ADT_A01, Kind.ORU_R01),
            on_reply=lambda sent, code: told.append((sent, code)),
        )
    assert tally == {"AA": 6, "AE": 3}
    assert [sent.raw for sent, _ in told] == peer.frames
    assert [code for _, code in told] == ["AA", "AA", "AE"] * 3
    assert {sent.kind for sent, _ in told} <= {Kind.ADT_A01, Kind.ORU_R01}
    assert told[0][0].control_id == "5-1-000001"


def test_two_simulations_by_the_clock_take_their_run_from_it():
    with receiver(lambda payload, _: ack(payload)) as peer:
        host, port = peer.address
        simulate(f"{host}:{port}", rate_per_s=1_000, count=1, seed=5)
    assert control_id_of(peer.frames[0]).startswith(b"5-")


def test_a_simulation_without_count_ends_when_stopped():
    stop = Event()

    def answers(payload: bytes, n: int) -> bytes:
        if n == 4:
            stop.set()
        return ack(payload) if n < 4 else b""

    with receiver(answers) as peer:
        host, port = peer.address
        assert simulate(f"{host}:{port}", rate_per_s=1_000, stop=stop) == {"AA": 4}
    assert len(peer.frames) == 5


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_rate_of_nothing_is_refused(rate):
    with pytest.raises(ValueError, match="rate"):
        simulate("127.0.0.1:1", rate_per_s=rate)
