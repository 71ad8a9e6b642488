"""A slice of the long loop, and the simulator over both its lines."""

import threading

from node.tools.simulate_lines import DEVICES, FAULTS, Call, Printed, Pty, reports, simulate
from sync.record import Kind
from tests.node_rig import Node, running, wait_until
from tests.serial_rig import Printer
from tests.sim_unplug import run


def test_what_a_device_was_told_is_stored_survives_pulled_cables_and_kills(tmp_path):
    said = run(tmp_path, turns=2, kills=1, seed=6)
    assert said.startswith("2 unplugs, 1 kills: ")


def messages(node: Node) -> list[bytes]:
    return [each.body for each in node.records("printer") if each.header.kind is Kind.MESSAGE]


def test_a_simulated_device_over_tcp_and_on_a_port_is_stored_report_for_report(realm, tmp_path):
    link = tmp_path / "ttySIM"
    feeds = [
        Printer("calling", lines='ends = "block"\ncheck = "xor-hex"'),
        Printer("printer", device=str(link), lines='ends = "pause"\nquiet_ms = 400'),
    ]
    sent: list[Printed] = []
    with running(Node(realm, tmp_path / "node", feeds)) as node:
        call = Call(":".join(map(str, node.feed("calling").address)))
        assert (
            simulate(call, "counter", count=30, every_s=0, seed=3, faults=("check",), share=0.3, told=sent.append) == 30
        )
        call.close()
        wait_until("all", lambda: node.stream("calling").size == 30)
        kept = node.records("calling")
        assert [each.body + b"\r\n" for each in kept if each.header.kind is Kind.MESSAGE] == [
            each.data for each in sent if not each.fault
        ]
        assert {each.refusal for each in kept} <= {"", "LIN-02", "LIN-03"}
        port = Pty(link)
        wait_until("the port", lambda: node.ask("status")["feeds"]["printer"]["line"]["state"] == "open")
        prints: list[Printed] = []
        printing = threading.Thread(
            target=simulate, args=(port, "urine"), kwargs={"count": 2, "every_s": 0.9, "seed": 1, "faults": (), "share": 0, "told": prints.append}
        )  # fmt: skip
        printing.start()
        wait_until("both", lambda: len(messages(node)) == 2)
        printing.join()
        assert messages(node) == [each.data for each in prints]
        port.close()


def test_a_seed_prints_the_same_reports_and_faults_spoil_only_their_share():
    for device in DEVICES:
        one = [next(each) for each in [reports(device, seed=4, faults=FAULTS, share=0.5)] for _ in range(40)]
        other = [next(each) for each in [reports(device, seed=4, faults=FAULTS, share=0.5)] for _ in range(40)]
        assert one == other
        assert 5 < sum(bool(each.fault) for each in one) < 35
        assert not any(next(each).fault for each in [reports(device, seed=4, faults=(), share=1)] for _ in range(5))
