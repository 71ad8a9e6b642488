"""A running node whose batches are compressed with what its gateway holds already: a real gateway, one set back, one that lost bodies, and older ones."""

import base64
import shutil
import sqlite3
from dataclasses import replace

import pytest

from node.uplink.own_logs import OwnLogs
from sync.context import CONTEXT_BYTES_MAX
from sync.dictionary import CONTEXT_MARK, RAW_BYTES_MAX
from sync.sender_events import Put
from tests.node_rig import EAGER, Centre, Node, centre, message, wait_until
from tests.sim_gateway import problem, sim_gateway
from tests.sim_realm import ORIGIN, draft, records

NUMBERS = iter(range(1_000_000))


@pytest.fixture
def gateway(realm, tmp_path):
    with centre(realm, tmp_path / "centre") as found:
        yield found


@pytest.fixture
def node(realm, gateway, tmp_path):
    made = Node(realm, tmp_path / "node", gateway=gateway)
    made.start(before=EAGER)
    yield made
    made.kill()


def one(node: Node) -> int:
    """Send a message that no dictionary suits, wait until it is receipted; the bytes of body that its calls took."""
    sent = node.ask("status")["link"]["octets_sent"]
    raw = message(
        f"CX-{next(NUMBERS)}", kind="ZZZ^Z01", more="NTE|1||text that is the same each time, and long enough to tell\r"
    )
    assert node.send(raw)[0].code == "AA"
    node.wait_receipted(size=node.stream().size)
    return int(node.ask("status")["link"]["octets_sent"]) - int(sent)


def refused(gateway: Centre) -> list[str]:
    return [line for line in gateway.log.splitlines() if '"refused"' in line]


def agree(node: Node, gateway: Centre) -> None:
    assert [base64.b64decode(row["body"]) for row in gateway.records(node.name, "his")] == node.bodies()


def test_second_message_of_a_kind_costs_less_than_the_first_and_arrives_the_same(node, gateway):
    first, *others = [one(node) for _ in range(4)]
    assert max(others) < first * 3 / 4
    agree(node, gateway)
    assert refused(gateway) == []


def test_a_restarted_node_goes_on_with_the_context_that_both_sides_have(node, gateway):
    first = one(node)
    node.restart(before=EAGER)
    assert one(node) < first * 3 / 4
    agree(node, gateway)
    assert refused(gateway) == []


def test_a_gateway_that_was_set_back_gets_everything_again(node, gateway):
    one(node)
    assert gateway.stop() == 0
    shutil.copy(gateway.data / "ledger.sqlite", gateway.data / "backup")
    gateway.start()
    for _ in range(3):
        one(node)
    assert gateway.stop() == 0
    (gateway.data / "backup").replace(gateway.data / "ledger.sqlite")
    gateway.start()
    node.ask("retry")
    one(node)
    wait_until("everything", lambda: len(gateway.records(node.name, "his")) == 5)
    agree(node, gateway)


def test_a_body_that_the_gateway_has_erased_costs_one_refusal_and_no_record(node, gateway):
    first = one(node)
    one(node)
    gateway.stop()
    with sqlite3.connect(gateway.data / "ledger.sqlite") as ledger:
        (row,) = ledger.execute("SELECT max(id) FROM header").fetchone()
        ledger.execute("UPDATE header SET state = 2 WHERE id = ?", (row,))
        ledger.execute("DELETE FROM body WHERE id = ?", (row,))
    ledger.close()
    gateway.start()
    node.ask("retry")
    one(node)
    assert one(node) < first * 3 / 4
    assert len(refused(gateway)) == 1
    assert "unknown-dictionary" in refused(gateway)[0]
    rows = gateway.records(node.name, "his")
    assert [bool(row["body"]) for row in rows] == [True, False, True, True]
    assert not [code for code, _ in node.alarms() if code.startswith("SYN-2")]


def test_a_context_that_cannot_be_read_is_left_out_and_one_that_is_not_wanted_is_not_read():
    class Unreadable(OwnLogs):
        def table(self, origin):
            self.asked = True
            raise OSError("a worn card")

    logs = Unreadable(None, list, None)  # type: ignore[arg-type]  # neither store nor alarms are come to
    put = Put(ORIGIN, 5, 512, 65536, context=CONTEXT_BYTES_MAX)
    assert logs.context(put, records([draft(5)], 5)) is None
    assert logs.asked
    logs.asked = False
    assert logs.context(replace(put, context=0), records([draft(5)], 5)) is None
    assert logs.context(put, records([draft(5, body=bytes(RAW_BYTES_MAX + 1))], 5)) is None
    assert not logs.asked


def test_a_gateway_from_before_contexts_is_never_sent_one(realm, tmp_path):
    with sim_gateway(realm) as fake:
        node = Node(realm, tmp_path / "node", gateway=fake.url)
        node.start(before=EAGER)
        try:
            for _ in range(3):
                one(node)
            assert fake.bodies() == node.bodies()
            assert not [call for call in fake.calls if call.body.startswith(CONTEXT_MARK)]
        finally:
            node.kill()


def test_a_gateway_that_was_replaced_by_an_older_one_gets_the_same_again_with_every_body(realm, tmp_path):
    with sim_gateway(realm) as fake:
        node = Node(realm, tmp_path / "node", gateway=fake.url)

        def older(request):
            if request.is_session:  # as it was when the session opened
                return http_json(fake.session_answer(request, context=CONTEXT_BYTES_MAX).encode())
            return problem(422, "bad-batch") if request.body.startswith(CONTEXT_MARK) else None

        fake.script = older
        node.start(before=EAGER)
        try:
            for _ in range(4):
                one(node)
            assert fake.bodies() == node.bodies()
            named = [call.body.startswith(CONTEXT_MARK) for call in fake.calls if call.method == "PUT"]
            assert named == [False, True, False, False, False]
            assert node.alarms() == set()
        finally:
            node.kill()


def http_json(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
