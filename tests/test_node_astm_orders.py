"""Instruments and their orders: asked for or handed out, without a link, over a kill, in contention; over TCP both ways and over a serial line."""

import contextlib
import os
import socket
import subprocess
import threading

import pytest

from hl7.devices.astm_records import read
from tests.astm_rig import ACK, ENQ, EOT, STREAM, AstmFeed, Instrument, records, result
from tests.node_rig import Feed, Node, free_port, running, wait_until

ORDERS = 'orders = "query"'


def oml(number, *tests, sample="S000007", control="NW"):
    rows = "".join(
        f"ORC|{control}|P{number}\rOBR|{n}|P{number}||{test}\rSPM|{n}|{sample}||WB\r" for n, test in enumerate(tests, 1)
    )
    return (
        f"MSH|^~\\&|LIS|TEST|WASL|HUB|20300101080000||OML^O21|O{number}|P|2.5.1||||||UNICODE UTF-8\r"
        f"PID|1||T000007^^^TEST||تجريبية^فاطمة||19800101|F\r{rows}"
    ).encode()


def query(sample="S000007", asked=None):
    return f"H|\\^&|||XN-550\rQ|1|{asked or '^' + sample}||ALL||||||||O\rL|1|N\r".encode()


def receive(instrument):
    """A transfer that the node sends; its records."""
    assert instrument.read() == ENQ
    text = b""
    instrument.write(ACK)
    while (first := instrument.read()) != EOT:
        frame = first
        while not frame.endswith(b"\r\n"):
            frame += instrument.read()
        text += frame[2:-5]
        instrument.write(ACK)
    return read(text)


def known(node, count=1, feed=STREAM):
    return lambda: node.ask("status")["feeds"][feed]["orders"]["known"] == count


@pytest.fixture(scope="module")
def node(realm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("orders")
    with running(Node(realm, folder, feeds=[Feed("his"), AstmFeed(STREAM, lines=ORDERS)])) as node:
        node.send(oml(1, "WBC", "RBC"), oml(2, "GLU", sample="S000008"))
        wait_until("orders", known(node, 2))
        yield node


def test_a_query_is_answered_with_the_samples_orders_without_a_link(node):
    with Instrument(node.feed(STREAM).address) as instrument:
        instrument.send(query())
        answer = receive(instrument)
    assert answer.letters == "HPOL"
    (order,) = answer.of("O")
    assert (order.get(3), [each[3] for each in (order.components(5, 1), order.components(5, 2))]) == (
        b"S000007",
        [b"WBC", b"RBC"],
    )
    assert answer.of("P")[0].get(6).decode() == "تجريبية"


@pytest.mark.parametrize("asked", ["^S000007\\^S000008", "T000007^"], ids=["samples", "patient"])
def test_a_query_for_more_than_one_sample_is_answered_with_the_orders_of_each(node, asked):
    with Instrument(node.feed(STREAM).address) as instrument:
        instrument.send(query(asked=asked))
        orders = receive(instrument).of("O")
    assert sorted(order.get(3) for order in orders) == [b"S000007", b"S000008"]


def test_the_number_of_an_unknown_sample_is_not_looked_for_among_patients(node):
    with Instrument(node.feed(STREAM).address) as instrument:
        instrument.send(query("T000007"))
        assert receive(instrument)[-1].raw == b"L|1|I"


def test_a_query_for_an_unknown_sample_is_answered_with_no_information(node):
    with Instrument(node.feed(STREAM).address) as instrument:
        instrument.send(query("NONE"))
        assert receive(instrument)[-1].raw == b"L|1|I"


def test_a_query_is_a_record_too(node):
    with Instrument(node.feed(STREAM).address) as instrument:
        instrument.send(query("S1"))
        receive(instrument)
    assert query("S1") in node.bodies(STREAM)
    assert {seen.header.message_type for seen in node.records(STREAM)} == {"Q"}


def test_in_contention_the_instrument_wins_and_gets_its_answer_afterwards(node):
    with Instrument(node.feed(STREAM).address) as instrument:
        instrument.send(query())
        assert instrument.read() == ENQ
        instrument.write(ENQ)  # it has a result, too
        instrument.socket.settimeout(1.2)
        with contextlib.suppress(TimeoutError):
            assert not instrument.read()
        instrument.socket.settimeout(40)
        instrument.send(result(7))
        wait_until("result", lambda: result(7) in node.bodies(STREAM))


def test_orders_are_kept_over_a_kill_and_a_lost_cache_is_made_again(node):
    node.restart()
    wait_until("orders", known(node, 2))
    node.kill()
    (node.data / "orders.db").write_bytes(b"no database" * 1000)
    node.start()
    wait_until("orders", known(node, 2))
    with Instrument(node.feed(STREAM).address) as instrument:
        instrument.send(query())
        assert receive(instrument).letters == "HPOL"


def test_more_tests_of_a_sample_are_added_and_cancelled_ones_taken_away(node):
    node.send(
        oml(11, "WBC", sample="S11"),
        oml(12, "PLT", sample="S11"),
        oml(13, "WBC", sample="S11", control="CA"),
        oml(14, "HGB", sample="S12"),
    )
    wait_until("orders", known(node, 4))
    with Instrument(node.feed(STREAM).address) as instrument:
        instrument.send(query("S11"))
        assert receive(instrument).of("O")[0].field(5) == b"^^^PLT"


def test_orders_go_out_unasked_where_the_feed_says_so_and_once(realm, tmp_path):
    feeds = [Feed("his"), AstmFeed(STREAM, lines='orders = "download"')]
    with running(Node(realm, tmp_path, feeds=feeds)) as node, Instrument(node.feed(STREAM).address) as instrument:
        node.send(oml(1, "WBC"))
        assert receive(instrument).of("O")[0].get(3) == b"S000007"
        node.send(oml(2, "GLU", sample="S9"))
        assert [order.get(3) for order in receive(instrument).of("O")] == [b"S9"]
        wait_until("handed out", lambda: node.ask("status")["feeds"][STREAM]["orders"]["handed_out"] == 2)


def test_an_instrument_that_listens_is_called_again_after_it_was_switched_off(realm, tmp_path):
    port = free_port()
    with running(
        Node(realm, tmp_path, feeds=[AstmFeed(STREAM, listen=(), lines=f'connect = "127.0.0.1:{port}"')])
    ) as node:
        for number in (1, 2):
            with socket.create_server(("127.0.0.1", port)) as server:
                instrument = Instrument.__new__(Instrument)
                instrument.socket = server.accept()[0]
                instrument.send(result(number))
                wait_until("record", lambda: len(node.records(STREAM)) == number)  # noqa: B023
                instrument.socket.close()
    assert node.bodies(STREAM) == [result(1), result(2)]


class Wire(Instrument):
    """An instrument at the other end of a serial cable."""

    def __init__(self, path):
        self.file = os.open(path, os.O_RDWR | os.O_NOCTTY)

    def __exit__(self, *_):
        os.close(self.file)

    def write(self, data):
        os.write(self.file, data)

    def read(self, count=1):
        return os.read(self.file, count)


@contextlib.contextmanager
def cable(folder):
    """A serial cable: killing socat is unplugging it."""
    ends = [folder / "node-end", folder / "instrument-end"]
    process = subprocess.Popen(["socat", *(f"pty,raw,echo=0,link={end}" for end in ends)])
    try:
        wait_until("cable", lambda: all(end.exists() for end in ends))
        yield ends
    finally:
        process.kill()
        process.wait(10)


def test_over_a_serial_line_a_transfer_cut_off_by_unplugging_is_incomplete_and_the_next_one_whole(realm, tmp_path):
    if not any(os.access(f"{folder}/socat", os.X_OK) for folder in os.get_exec_path()):
        pytest.skip("no socat")
    feed = AstmFeed(STREAM, listen=(), more=f'[feeds.serial]\nport = "{tmp_path}/node-end"\n')
    node = Node(realm, tmp_path, feeds=[feed])

    def is_open():
        return node.ask("status")["feeds"][STREAM]["port"]["open"]

    with running(node):
        with cable(tmp_path) as ends:
            wait_until("port", is_open)
            with Wire(ends[1]) as instrument:
                instrument.begin()
                assert instrument.exchange(instrument.frames(result(1))[0]) == ACK
        wait_until("unplugged", lambda: not is_open())
        with cable(tmp_path) as ends:
            wait_until("port", is_open)
            with Wire(ends[1]) as instrument:
                instrument.send(result(1))
                wait_until("records", lambda: len(node.records(STREAM)) == 2)
    assert [(seen.header.kind.word, seen.body) for seen in node.records(STREAM)] == [
        ("incomplete", records(result(1))[0]),
        ("message", result(1)),
    ]


def test_a_serial_line_of_an_instrument_that_is_unplugged_or_set_wrong_is_an_alarm_while_it_lasts(realm, tmp_path):
    feed = AstmFeed(STREAM, listen=(), more=f'[feeds.serial]\nport = "{tmp_path}/node-end"\n')
    with running(Node(realm, tmp_path, feeds=[feed])) as node:
        wait_until("not there", lambda: ("SER-01", STREAM) in node.alarms())
        with cable(tmp_path) as ends:
            wait_until("no alarm", lambda: ("SER-01", STREAM) not in node.alarms())
            with Wire(ends[1]) as instrument:
                instrument.write(b"\x00\xff\xfe\x80\xf0" * 8)  # what 9600 baud is to a receiver at another rate
                wait_until("noise", lambda: ("SER-04", STREAM) in node.alarms())
        wait_until("unplugged", lambda: ("SER-01", STREAM) in node.alarms())


def test_sixteen_instruments_at_once_lose_nothing(realm, tmp_path):
    with running(Node(realm, tmp_path, feeds=[AstmFeed(STREAM)])) as node:
        address = node.feed(STREAM).address

        def work(number):
            with Instrument(address) as instrument:
                for each in range(5):
                    instrument.send(result(number * 100 + each))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        wait_until("all", lambda: len(node.records(STREAM)) == 80)
    assert set(node.bodies(STREAM)) == {result(number * 100 + each) for number in range(16) for each in range(5)}
