"""An analyzer asks for its orders over MLLP (IHE LAW: LAB-27) and is given them at its own listener (LAB-28), without a link, over a kill."""

import contextlib
import json
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from hl7.devices.law import Query, no_work, read_query, read_reply
from hl7.message import Message, facts
from hl7.text import Text
from node.cli.main import main
from node.config.config import ConfigError, load
from node.tools import simulate_law
from tests.destination_rig import EAGER, Peer, destination, msh, parked, wait_got
from tests.node_rig import END, ROOT, START, Feed, Node, Reply, free_port, running, wait_until
from tests.test_hl7_law import qbp
from tests.test_node_astm_orders import oml

PYTHON = ROOT / "peers/py/bin/python"


def orl(raw, _=None, *, code=b"AA", control=b"OK"):
    """What an analyzer says to an order."""
    return [
        b"MSH|^~\\&|TestAnalyzer|Lab|WASL|HUB|20300101080000||ORL^O34^ORL_O42|R1|P|2.5.1|||ER|NE\rMSA|%b|%b\rSPM|1|x\rORC|%b\r"
        % (code, msh(raw, 10), control)
    ]


def law(port, more=""):
    return Feed(
        "analyzer", stream="lab", lines=f'application_reply = true\norders = "query"\norders_to = "127.0.0.1:{port}"\n{more}'
    )  # fmt: skip


def known(node, count):
    wait_until("orders", lambda: node.ask("status")["feeds"]["analyzer"]["orders"]["known"] == count)


def asked(sample, number="1", *, name="WOS", asks="ER|AL"):
    raw = qbp(f"QPD|{name}^Work Order Step^IHE_LABTF|Tag{number}|{sample}".rstrip("|"), asks=asks)
    return raw.replace(b"|Q1|", b"|Q%b|" % number.encode())


def replay(node, number):
    """Have a person's wish carried out: the message of this row of those parked is sent again."""
    node.ask(f"destination replay analyzer-orders {number}")


def samples(got):
    return [(Text(raw).get("SAC-3").text, Text(raw).get("ORC-1").text) for raw in got]


@pytest.fixture(scope="module")
def analyzer():
    with Peer(orl) as peer:
        yield peer


@pytest.fixture(scope="module")
def node(realm, tmp_path_factory, analyzer):
    made = Node(
        realm, tmp_path_factory.mktemp("law"), feeds=[Feed("his"), law(analyzer.port, 'trial_listen = ["127.0.0.1:0"]')]
    )
    with running(made, before=EAGER) as made:
        made.send(oml(1, "WBC", "RBC"), oml(2, "GLU", sample="S000008"))
        known(made, 2)
        yield made


def exchange(node, raw):
    with node.mllp("analyzer") as mllp:
        return mllp.exchange(raw)


@pytest.fixture
def follows(node, analyzer):
    """What the analyzer is sent after a message, and before what follows the next one: its reply and those messages."""
    marks = iter(("BEFORE", "AFTER"))

    def mark():
        name = f"{next(marks)}-{len(analyzer.got)}"
        exchange(node, asked(name, name))
        wait_until("all before it", lambda: (name, "DC") in samples(analyzer.got))
        return samples(analyzer.got).index((name, "DC"))

    def send(raw):
        begin, reply = mark(), exchange(node, raw)
        return reply, analyzer.got[begin + 1 : mark()]

    return send


def test_a_query_is_stored_answered_and_followed_by_the_samples_orders_without_a_link(node, follows):
    reply, (raw,) = follows(asked("S000007", "A1"))
    assert Message(reply.payload).read(("MSH-9", "MSA-1", "MSA-2", "QAK-1", "QAK-2", "QPD-3")) == [
        b"RSP^K11^RSP_K11", b"AA", b"QA1", b"TagA1", b"OK", b"S000007",
    ]  # fmt: skip
    text = Text(raw)
    assert [text.get(path).text for path in ("SAC-3", "PID-5.1", "PID-5.2", "OBR[1]-4", "OBR[2]-4")] == [
        "S000007", "تجريبية", "فاطمة", "WBC", "RBC",
    ]  # fmt: skip
    assert asked("S000007", "A1") in node.bodies("lab")


def test_an_unknown_sample_is_told_as_not_found_and_followed_by_the_word_that_there_is_no_work(follows):
    reply, sent = follows(asked("NONE", "B1"))
    assert Message(reply.payload).get("QAK-2") == b"NF"
    assert samples(sent) == [("NONE", "DC")]


def test_an_analyzer_that_asks_by_the_containers_number_is_given_work_for_that_container(node, follows):
    node.send(oml(3, "NA", sample="S000011\rSAC|||TUBE-11").replace(b"||WB", b"") + b"\r")
    known(node, 3)
    reply, (raw,) = follows(asked("TUBE-11", "B3"))
    assert Message(reply.payload).get("QAK-2") == b"OK"
    assert Message(raw).read(("SAC-3", "SPM-2")) == [b"TUBE-11", b"S000011"]


def test_a_patients_number_in_place_of_a_samples_finds_no_orders(follows):
    reply, sent = follows(asked("T000007", "B2"))  # of whom both orders are
    assert Message(reply.payload).get("QAK-2") == b"NF"
    assert samples(sent) == [("T000007", "DC")]


@pytest.mark.parametrize(
    ("asks", "codes"), [("AL|AL", ["CA", "AA"]), ("ER|AL", ["AA"]), ("AL|NE", ["CA"]), ("|", ["AA"])]
)
def test_the_replies_are_those_that_are_asked_for_and_in_original_mode_the_response_alone(node, asks, codes):
    number = "C" + "".join(codes) + asks[:2].strip("|")
    with node.mllp("analyzer") as mllp:
        mllp.send(asked("S000008", number, asks=asks))
        found = [Reply(mllp.reply()) for _ in codes]
        assert mllp.exchange(asked("S000008", number + "-")).control_id == f"Q{number}-".encode()
    assert [each.code for each in found] == codes
    assert [b"RSP^K11" in each.payload for each in found] == [code == "AA" for code in codes]


@pytest.mark.parametrize(
    ("qpd", "code", "error"),
    [("QPD|WOS^x|T9|", "AE", b"101"), ("QPD|WOS_BY_RACK^x|T9||R1|3", "AR", b"103"), ("NTE|1", "AE", b"101")],
)
def test_a_query_that_cannot_be_answered_is_kept_told_why_and_followed_by_nothing(node, follows, qpd, code, error):
    raw = qbp(qpd).replace(b"|Q1|", b"|QD%d|" % len(qpd))
    reply, sent = follows(raw)
    assert (reply.code, sent) == (code, [])
    assert Message(reply.payload).read(("QAK-2", "ERR-3.1")) == [code.encode(), error]
    assert raw in node.bodies("lab")


def test_a_vendors_trial_is_told_of_no_patient(follows):
    reply, sent = follows(asked("S000007", "E1").replace(b"|P|2.5.1", b"|T|2.5.1"))
    assert (Message(reply.payload).get("QAK-2"), sent) == (b"NF", [])


def test_results_on_the_same_feed_are_answered_as_ever(node):
    raw = qbp(kind="OUL^R22^OUL_R22").replace(b"|Q1|", b"|RES|").replace(b"QPD|", b"NTE|")
    assert b"|ACK^R22" in exchange(node, raw).payload


@pytest.fixture(scope="module")
def alone(realm, tmp_path_factory):
    """A node whose analyzer is whoever listens at this port."""
    port = free_port()
    with running(Node(realm, tmp_path_factory.mktemp("alone"), feeds=[Feed("his"), law(port)]), before=EAGER) as node:
        node.send(oml(1, "WBC", "RBC"), oml(2, "GLU", sample="S000008"), oml(3, "GLU", sample="S000008", control="CA"))
        known(node, 1)
        yield node, port


@pytest.mark.skipif(not PYTHON.exists(), reason="peers/py is not installed")
def test_python_hl7_as_the_analyzer_is_answered_and_given_its_orders(alone):
    node, port = alone
    command = [PYTHON, "-I", "tests/law_peer.py", str(node.feed("analyzer").port), str(port), "S000007", "S000008"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    found, cancelled = map(json.loads, done.stdout.splitlines())
    assert (found["type"], found["code"], found["id"], found["status"]) == ("RSP^K11^RSP_K11", "AA", "PEER-S000007", "OK")  # fmt: skip
    assert (found["sample"], found["control"], found["tests"], found["name"]) == ("S000007", "NW", ["WBC", "RBC"], "تجريبية^فاطمة^^^^^L")  # fmt: skip
    assert (cancelled["status"], cancelled["sample"], cancelled["control"]) == ("NF", "S000008", "DC")


def test_the_simulated_analyzer_asks_is_given_its_orders_and_says_what_it_is_told_to(alone):
    node, port = alone
    command = [
        sys.executable,
        "-m",
        "node.cli",
        "simulate",
        "law",
        "S000007",
        "NONE",
        "--to",
        f"127.0.0.1:{node.feed('analyzer').port}",
    ]
    analyzer = subprocess.Popen(
        [*command, "--listen", f"127.0.0.1:{port}", "--fault", "unable"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    with analyzer:
        assert [analyzer.stdout.readline() for _ in range(2)] == ["S000007: WBC, RBC\n", "NONE: no work\n"]
        analyzer.kill()
    wait_until("parked", lambda: [row["detail"] for row in parked(node, "analyzer-orders")][:1] == ["UA"])
    work = no_work("NONE", facts(qbp()), control_id=b"W1", now=b"20300101")
    now = datetime(2030, 1, 1, tzinfo=UTC)
    said = [simulate_law.reply(work, fault, now) for fault in ("", "refuse", "unable")]
    assert [(read_reply(each).code, read_reply(each).is_unable) for each in said] == [
        ("AA", False),
        ("AR", True),
        ("AA", True),
    ]
    assert simulate_law.reply(work, "silent", now) == b""
    assert read_query(simulate_law.query("", number="1", now=now)) == Query()


def test_an_order_counts_as_given_only_when_the_analyzer_has_said_so_also_over_a_kill(realm, tmp_path):
    is_silent = [True]
    with Peer(lambda raw, peer: None if is_silent[0] else orl(raw)) as peer:
        node = Node(realm, tmp_path, feeds=[Feed("his"), law(peer.port)])
        with running(node, before=EAGER) as node:
            node.send(oml(1, "WBC"), oml(2, "GLU", sample="S000008"))
            known(node, 2)
            assert Message(exchange(node, asked("", "1", name="WOS_ALL")).payload).get("QAK-2") == b"OK"
            wait_got(peer, 1)  # the analyzer has it, and does not say so
            node.restart(before=EAGER)
            wait_got(peer, 2)
            is_silent[0] = False
            wait_until("both given", lambda: destination(node, "analyzer-orders")["taken"] == 2)
            assert len(set(peer.got)) == 2  # a repeat has the same bytes
            assert samples(dict.fromkeys(peer.got)) == [("S000007", "NW"), ("S000008", "NW")]
            count = len(peer.got)
            assert Message(exchange(node, asked("", "2", name="WOS_ALL")).payload).get("QAK-2") == b"NF"
            assert Message(exchange(node, asked("S000007", "3")).payload).get("QAK-2") == b"OK"  # by its name, any time
            assert samples(wait_got(peer, count + 1)[count:]) == [("S000007", "NW")]
            node.send(oml(3, "NA", sample="S000009"))
            known(node, 3)
            exchange(node, asked("", "4", name="WOS_ALL"))
            assert samples(wait_got(peer, count + 2)[count + 1 :]) == [("S000009", "NW")]


def test_an_order_that_was_called_off_while_the_analyzer_was_away_is_not_given_and_work_it_refuses_is_parked(
    realm, tmp_path
):
    port = free_port()
    with running(Node(realm, tmp_path, feeds=[Feed("his"), law(port)]), before=EAGER) as node:
        node.send(oml(1, "WBC"), oml(2, "GLU", sample="S000008"), oml(4, "NA", sample="S000009"))
        known(node, 3)
        for number, sample in enumerate(("S000007", "S000008", "NONE", "S000009")):
            exchange(node, asked(sample, f"{number}"))
        wait_until("it is away", lambda: destination(node, "analyzer-orders")["state"] == "retrying")
        node.send(oml(3, "WBC", control="CA"))
        known(node, 2)
        answers = {b"S000008": {"control": b"UA"}, b"NONE": {"code": b"AR"}}
        with contextlib.ExitStack() as stack:
            peer = stack.enter_context(
                Peer(lambda raw, _: orl(raw, **answers.get(Message(raw).get("SAC-3") or b"", {})), port=port)
            )
            wait_until("the last", lambda: samples(peer.got)[-1:] == [("S000009", "NW")])
            wait_until("parked", lambda: len(parked(node, "analyzer-orders")) == 2)
        assert samples(peer.got) == [("S000008", "NW"), ("NONE", "DC"), ("S000009", "NW")]
        assert [(row["reason"], row["detail"]) for row in parked(node, "analyzer-orders")] == [
            ("DST-01", "UA"),
            ("DST-01", "AR"),
        ]


@pytest.mark.parametrize(("own", "other", "reason"), [(b"OK", b"UA", []), (b"UA", b"OK", ["UA"])])
@pytest.mark.parametrize("is_first", [True, False])
def test_work_is_judged_by_its_own_reply_whatever_other_replies_come_with_it(
    realm, tmp_path, own, other, reason, is_first
):
    def replies(raw, peer):
        del peer
        (mine,), (late,) = orl(raw, control=own), orl(raw.replace(msh(raw, 10), b"ANOTHER"), control=other)
        both = (mine, late) if is_first else (late, mine)
        return [b"".join(START + each + END for each in both)]  # in one packet

    with (
        Peer(replies) as peer,
        running(Node(realm, tmp_path, feeds=[Feed("his"), law(peer.port)]), before=EAGER) as node,
    ):
        exchange(node, asked("NONE"))
        wait_until("judged", lambda: (seen := destination(node, "analyzer-orders"))["taken"] + seen["refused"] == 1)
        assert [row["detail"] for row in parked(node, "analyzer-orders")] == reason


def test_work_that_an_analyzer_cannot_do_is_not_all_that_it_is_ever_told_of(realm, tmp_path):
    def answer(raw, _):
        return orl(raw, control=b"UA" if Message(raw).get("SAC-3") == b"S000007" else b"OK")

    only_one = "import node.orders.cache as c; c.ANSWERS_MAX = 1"
    with (
        Peer(answer) as peer,
        running(Node(realm, tmp_path, feeds=[Feed("his"), law(peer.port)]), before=f"{EAGER}; {only_one}") as node,
    ):
        node.send(oml(1, "WBC"), oml(2, "GLU", sample="S000008"))
        known(node, 2)
        for number in (1, 2):
            exchange(node, asked("", f"{number}", name="WOS_ALL"))
            wait_got(peer, number)
            wait_until(
                "judged",
                lambda: (seen := destination(node, "analyzer-orders"))["taken"] + seen["refused"] == number,  # noqa: B023
            )
        assert samples(peer.got) == [("S000007", "NW"), ("S000008", "NW")]
        assert Message(exchange(node, asked("", "3", name="WOS_ALL")).payload).get("QAK-2") == b"NF"
        exchange(node, asked("S000007", "4"))  # by its sample, any time
        assert samples(wait_got(peer, 3)[2:]) == [("S000007", "NW")]


@pytest.mark.parametrize("kind", [b"QBP^Q11^", b"QBP^Q11^QBP_Q11^LAW"])
def test_a_query_whose_type_is_written_in_another_way_is_followed_by_its_orders_too(follows, kind):
    reply, sent = follows(asked("S000007", f"F{len(kind)}").replace(b"QBP^Q11^QBP_Q11", kind))
    assert Message(reply.payload).get("QAK-2") == b"OK"
    assert samples(sent) == [("S000007", "NW")]


def test_a_query_with_separators_of_its_own_is_followed_by_its_orders_too(follows):
    reply, sent = follows(asked("S000007", "G1").replace(b"^", b"@").replace(b"MSH|@", b"MSH|@", 1))
    assert Message(reply.payload).get("QAK-2") == b"OK"
    assert samples(sent) == [("S000007", "NW")]


def test_what_is_no_message_is_followed_by_nothing_and_holds_up_no_query(node, follows):
    _, sent = follows(asked("S000007", "G2").replace(b"MSH", b"XXX"))
    assert sent == []


LATER = "import node.orders.law_desk as d; d.STALE_US = 0"  # every query was asked long ago


def test_work_that_was_refused_can_be_replayed_at_any_age_unless_it_was_called_off(realm, tmp_path):
    refuses = [True]
    with Peer(lambda raw, _: orl(raw, code=b"AR" if refuses[0] else b"AA")) as peer:
        node = Node(realm, tmp_path, feeds=[Feed("his"), law(peer.port)])
        with running(node, before=EAGER) as node:
            node.send(oml(1, "WBC"), oml(2, "GLU", sample="S000008"), oml(3, "NA", sample="S000009"))
            known(node, 3)
            exchange(node, asked("", "1", name="WOS_ALL"))
            exchange(node, asked("NONE", "2"))
            wait_until("refused", lambda: len(parked(node, "analyzer-orders")) == 4)
            node.restart(before=f"{EAGER}; {LATER}")
            node.send(oml(4, "GLU", sample="S000008", control="CA"))
            known(node, 2)
            node.send(oml(5, "WBC", sample="NEW"))
            known(node, 3)
            refuses[0], begun = False, len(peer.got)
            for row in parked(node, "analyzer-orders"):
                replay(node, row["id"])
            wait_until("tried", lambda: [row["tries"] for row in parked(node, "analyzer-orders")] == [2])
            assert sorted(samples(peer.got[begun:])) == [("NONE", "DC"), ("S000007", "NW"), ("S000009", "NW")]
            assert len({msh(raw, 10) for raw in peer.got}) == 4  # the same bytes as at first


def test_one_order_that_an_analyzer_never_answers_can_be_put_aside_and_the_next_follows(realm, tmp_path):
    port = free_port()
    with running(Node(realm, tmp_path, feeds=[Feed("his"), law(port)]), before=EAGER) as node:
        node.send(oml(1, "WBC"), oml(2, "GLU", sample="S000008"))
        known(node, 2)
        exchange(node, asked("", "1", name="WOS_ALL"))
        wait_until("it is away", lambda: destination(node, "analyzer-orders")["state"] == "retrying")
        assert str(node.ask("destination skip analyzer-orders lab")).startswith("lab/1/")
        assert [row["reason"] for row in parked(node, "analyzer-orders")] == ["DST-07"]
        with Peer(orl, port=port) as peer:
            assert samples(wait_got(peer, 1)) == [("S000008", "NW")]
        node.stop()
        done = CliRunner().invoke(
            main, ["destination", "skip", "--config", str(node.folder / "node.toml"), "analyzer-orders", "lab"]
        )
        assert "only a running core knows" in done.output


def test_the_order_that_is_tried_in_vain_is_the_one_put_aside_however_long_ago_it_was_asked_for(realm, tmp_path):
    with running(Node(realm, tmp_path, feeds=[Feed("his"), law(free_port())]), before=f"{EAGER}; {SOON}") as node:
        node.send(oml(1, "WBC"), oml(2, "GLU", sample="S000008"))
        known(node, 2)
        exchange(node, asked("S000007", "1"))
        wait_until("it is away", lambda: destination(node, "analyzer-orders")["state"] == "retrying")
        time.sleep(1.5)  # nobody waits for it any more
        exchange(node, asked("S000008", "2"))
        place = node.bodies("lab").index(asked("S000007", "1"))
        assert node.ask("destination skip analyzer-orders lab") == f"lab/1/{place}"
        assert [(row["reason"], row["seq"]) for row in parked(node, "analyzer-orders")] == [("DST-07", place)]


SOON = "import node.orders.law_desk as d; d.STALE_US = 1_000_000"


def test_a_query_that_was_passed_over_by_a_person_is_answered_with_what_it_asks_for_now(realm, tmp_path):
    port = free_port()
    node = Node(realm, tmp_path, feeds=[Feed("his"), law(port)])
    with running(node, before=EAGER) as node:
        node.send(oml(1, "WBC"))
        known(node, 1)
        exchange(node, asked("S000007", "1"))
        wait_until("it is away", lambda: destination(node, "analyzer-orders")["state"] == "retrying")
        node.ask("destination go analyzer-orders lab/end")
        (row,) = parked(node, "analyzer-orders")
        node.restart(before=f"{EAGER}; {LATER}")
        node.send(oml(2, "RBC"))
        wait_until("both", lambda: b"RBC" in (node.data / "orders.db-wal").read_bytes())
        with Peer(orl, port=port) as peer:
            replay(node, row["id"])
            (raw,) = wait_got(peer, 1)
            assert [Message(raw).get(f"OBR[{n}]-4") for n in (1, 2, 3)] == [b"WBC", b"RBC", None]
            wait_until("gone", lambda: parked(node, "analyzer-orders") == [])


UNREADABLE = """
import os, apsw, node.orders.cache as c, sync.pace as p
p.WAIT_S_MIN = p.WAIT_S_MAX = 0.05
find = c.OrderCache.find_rows
def fails(self, number):
    if os.path.exists({flag!r}):
        raise apsw.IOError("disk")
    return find(self, number)
c.OrderCache.find_rows = fails
"""


def test_an_analyzer_is_told_that_its_orders_cannot_be_read_and_given_them_once_they_can(realm, tmp_path):
    flag = tmp_path / "unreadable"
    with Peer(orl) as peer:
        node = Node(realm, tmp_path / "node", feeds=[Feed("his"), law(peer.port)])
        with running(node, before=UNREADABLE.format(flag=str(flag))) as node:
            node.send(oml(1, "WBC"))
            known(node, 1)
            flag.touch()
            reply = Message(exchange(node, asked("S000007", "1")).payload)
            assert reply.read(("MSA-1", "QAK-2")) == [b"AE", b"AE"]
            wait_until(
                "it waits", lambda: (destination(node, "analyzer-orders")["last_error"] or {}).get("code") == "LAW-03"
            )
            assert peer.got == []
            flag.unlink()
            assert samples(wait_got(peer, 1)) == [("S000007", "NW")]
            assert destination(node, "analyzer-orders")["parked"] == 0


def test_the_orders_can_be_read_until_whoever_carries_them_has_stopped(realm, tmp_path):
    log = tmp_path / "log"
    note = f"""
import node.orders.cache as c, node.destinations.site as s
def noted(name, before):
    def run(self):
        before(self)
        open({str(log)!r}, "a").write(name)
    return run
c.OrderCache.close, s.Site.stop = noted("cache ", c.OrderCache.close), noted("carriers ", s.Site.stop)
"""
    with Peer(orl) as peer:
        node = Node(realm, tmp_path / "node", feeds=[Feed("his"), law(peer.port)])
        with running(node, before=EAGER + note):
            assert node.stop() == 0
    assert log.read_text().split() == ["carriers", "cache"]


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ('orders = "query"', "needs orders_to"),
        ('orders_to = "127.0.0.1:2600"', 'is of no use without orders = "query"'),
        ('orders = "query"\norders_to = "127.0.0.1:2600"\napplication_reply_to = "127.0.0.1:2601"', "answered where it came"),
        ('orders = "query"\norders_to = "127.0.0.1:0"', "must name a port"),
        ('orders = "query"\norders_to = "127.0.0.1:2600"\nsequence_numbers = "followed"', "sequence_numbers cannot both be"),
        ('orders = "query"\norders_to = "127.0.0.1:2600"\norders_tls = { ca = "ca.pem", key = "k" }', "certificate and key"),
        ('orders = "download"', "query"),
    ],
)  # fmt: skip
def test_orders_that_could_go_nowhere_are_refused_by_the_configuration(realm, tmp_path, lines, wrong):
    with pytest.raises(ConfigError, match=wrong):
        load(Node(realm, tmp_path, feeds=[Feed("his", lines=lines)]).config())
