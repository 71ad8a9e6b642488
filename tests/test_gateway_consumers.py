"""The consumers' listener: tokens, records without gaps, held records, evidence that a stranger can verify, the page."""

import base64
import http.client
import json
import os
import re
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.consumers import line, moment
from gateway.errors import ALARMS
from gateway.page import HEADERS
from gateway.page_words import WORDS
from gateway.public import LIMIT_MAX
from node.tools.pki import revoke
from sync.batch import encode
from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.errors import BadEvidence
from sync.evidence import parse, verify
from sync.record import BodyState, Record, Verdict
from sync.store import SafeDatabase
from tests.gateway_rig import PLAIN_TOKEN, TOKEN, Gateway, Realm, TinyNode, message, running

TEMPLATES = Path(__file__).parents[1] / "gateway/templates"
FIELDS = ["epoch", "seq", "kind", "received_at", "content_type", "type", "control_id", "verdict", "body", "leaf", "state", "held"]  # fmt: skip


@pytest.fixture(scope="module")
def gateway(realm, tmp_path_factory):
    """A gateway that holds 40 records of `clinic-17/his`, one of them rejected, and 4 held ones of `restored/his`."""
    folder = tmp_path_factory.mktemp("gateway")
    with running(realm, folder) as found:
        fill(realm, found, folder)
        yield found


def fill(realm: Realm, gateway: Gateway, folder: Path) -> None:
    node = TinyNode(realm, gateway, "clinic-17", folder / "outbox-1.sqlite")
    node.add([message(n) for n in range(20)])
    node.add([message(20)], verdict=Verdict.REJECTED)
    node.add([message(n) for n in range(21, 39)])
    node.add([os.urandom(300)], verdict=Verdict.ACCEPTED_WITH_WARNING)
    node.session()
    assert [node.put(first, first + 20).status for first in (0, 20)] == [200, 200]
    node.close()
    node = TinyNode(realm, gateway, "restored", folder / "outbox-2.sqlite", streams=("his", "lab"))
    node.add([message(n) for n in range(8)])
    node.session()
    assert node.put(0, 2).status == 200
    node.boot = os.urandom(16).hex()
    node.session(fence="0" * 32)
    assert node.put(2, 6).status == 200
    node.close()


def problem(answer) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status, answer.json()["code"]


# --- tokens


@pytest.mark.parametrize(
    "path",
    [
        "/v1/nodes",
        "/v1/nodes/clinic-17/streams",
        "/v1/nodes/clinic-17/streams/his/records",
        "/v1/nodes/clinic-17/streams/his/records/1/0/evidence",
    ],
)
@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", "؟"])
def test_without_a_good_token_nothing_is_told(gateway, path, token):
    headers = {"Authorization": f"Bearer {token}".encode()} if token else {}
    connection = http.client.HTTPConnection("127.0.0.1", gateway.api_port, timeout=30)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    connection.close()


def test_a_token_of_another_scheme_is_401(gateway):
    connection = http.client.HTTPConnection("127.0.0.1", gateway.api_port, timeout=30)
    connection.request("GET", "/v1/nodes", headers={"Authorization": f"Basic {TOKEN}"})
    assert connection.getresponse().status == 401
    connection.close()


def test_health_and_metrics_need_no_token_and_count(gateway):
    assert gateway.get("/healthz", token="").data == b"ok\n"
    text = gateway.get("/metrics", token="").data.decode()
    assert float(re.search(r"^wasl_gateway_records_committed_total (\S+)$", text, re.MULTILINE)[1]) == 46
    assert 'wasl_gateway_alarms_total{code="GWY-10"} 1.0' in text
    assert "wasl_gateway_commit_seconds_bucket" in text
    assert "wasl_gateway_queue_calls 0.0" in text
    assert "clinic-17" not in text


# --- records


def test_nodes_and_streams_are_listed(gateway):
    nodes = gateway.get("/v1/nodes").json()["nodes"]
    assert [(node["name"], node["held"]) for node in nodes] == [("clinic-17", False), ("restored", True)]
    (his, lab) = gateway.get("/v1/nodes/restored/streams").json()["streams"]
    assert (his["stream"], his["epoch"], his["size"], his["held"]) == ("his", 1, 6, 4)
    assert (lab["stream"], lab["size"], lab["receipt_at"]) == ("lab", 0, "")


def test_seq_has_no_gaps_and_every_field_stands_in_every_line(gateway):
    shown = gateway.records("clinic-17", "his")
    assert [(record["epoch"], record["seq"]) for record in shown] == [(1, n) for n in range(40)]
    assert all(list(record) == FIELDS for record in shown)
    assert [record["verdict"] for record in shown[19:22]] == ["accepted", "rejected", "accepted"]
    first = shown[0]
    assert base64.b64decode(first["body"]) == message(0)
    assert first["received_at"] == "2027-01-15T08:00:00.000000Z"
    assert (first["kind"], first["type"], first["control_id"]) == ("message", "ORU^R01", "MSG000000")
    assert (first["content_type"], first["held"]) == ("application/hl7-v2+er7", False)
    assert (
        gateway.get("/v1/nodes/clinic-17/streams/his/records")
        .headers["content-type"]
        .startswith("application/x-ndjson")
    )


@pytest.mark.parametrize(
    ("query", "seqs"),
    [("?from=35", range(35, 40)), ("?limit=3", range(3)), ("?epoch=1&from=38&limit=10", range(38, 40)), ("?from=40", ()), ("?from=999999", ()), ("?limit=39&from=0", range(39)), ("?limit=3000000", range(40))],
)  # fmt: skip
def test_from_is_inclusive_and_limit_is_exact(gateway, query, seqs):
    assert [record["seq"] for record in gateway.records("clinic-17", "his", query)] == list(seqs)


@pytest.mark.parametrize(
    "query",
    ["?limit=0", f"?limit={LIMIT_MAX + 1}", "?limit=x", "?from=-1", "?epoch=0", f"?epoch={2**31}", f"?from={2**63}"],
)
def test_a_parameter_out_of_range_is_400_and_says_which(gateway, query):
    answer = gateway.get(f"/v1/nodes/clinic-17/streams/his/records{query}")
    assert problem(answer) == (400, "bad-request")
    assert query[1:].partition("=")[0] in answer.json()["detail"]


@pytest.mark.parametrize(
    "path",
    ["/v1/nodes/nobody/streams", "/v1/nodes/nobody/streams/his/records", "/v1/nodes/clinic-17/streams/none/records", "/v1/nodes/clinic-17/streams/his/records?epoch=2",
     "/v1/nodes/clinic-17/streams/his/records/1/40/evidence", "/v1/nodes/clinic-17/streams/his/records/2/0/evidence", "/v1/else"],
)  # fmt: skip
def test_what_is_not_there_is_404(gateway, path):
    assert problem(gateway.get(path)) == (404, "not-found")


def test_held_records_are_listed_and_proved_only_with_the_right_to_release(gateway):
    assert [(r["seq"], r["held"]) for r in gateway.records("restored", "his")] == [(n, n >= 2) for n in range(6)]
    assert [r["seq"] for r in gateway.records("restored", "his", token=PLAIN_TOKEN)] == [0, 1]
    path = "/v1/nodes/restored/streams/his/records/1/{}/evidence"
    assert gateway.get(path.format(1), token=PLAIN_TOKEN).status == 200
    assert problem(gateway.get(path.format(2), token=PLAIN_TOKEN)) == (404, "not-found")
    assert gateway.get(path.format(2)).status == 200


def test_what_a_node_announced_and_has_not_sent_is_shown_as_at_the_node_until_it_comes(realm, gateway, tmp_path):
    node = TinyNode(realm, gateway, "metered", tmp_path / "outbox.sqlite")
    node.add([message(n) for n in range(9)])
    node.session(heads=(node.outbox.heads["his"].checkpoint,))

    def shown() -> tuple[int, int]:
        (log,) = gateway.get("/v1/nodes/metered/streams").json()["streams"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", log["announced_at"])
        return log["size"], log["at_node"]

    assert shown() == (0, 9)
    assert node.put(0, 4).status == 200
    assert shown() == (4, 5)
    assert node.put(4, 9).status == 200
    assert shown() == (9, 0)
    node.close()


def test_node_that_sends_other_records_than_it_announced_is_alarmed_once_they_have_passed(realm, gateway, tmp_path):
    node = TinyNode(realm, gateway, "changed", tmp_path / "outbox.sqlite")
    node.add([message(n) for n in range(6)])
    other = sign_checkpoint(Checkpoint(node.origin(), 4, bytes(32)), node.signer)
    node.session(heads=(other, b"not a note"))
    assert node.put(0, 3).status == 200
    assert '"code": "GWY-19"' not in gateway.log
    assert node.put(3, 6).status == 200
    assert '"code": "GWY-19", "node": "changed", "stream": "his"' in gateway.log
    node.close()


def test_bodies_of_many_pages_come_whole(realm, gateway, tmp_path):
    node = TinyNode(realm, gateway, "large", tmp_path / "outbox.sqlite")
    bodies = [bytes([n]) * (700_000 if n % 3 else 5) for n in range(12)]
    node.add(bodies)
    node.session()
    assert node.put(0, 12).status == 200
    node.close()
    shown = gateway.records("large", "his")
    assert [base64.b64decode(record["body"]) for record in shown] == bodies
    assert len(gateway.records("large", "his", "?from=1&limit=5")) == 5


def test_a_record_whose_header_is_lost_is_listed_with_its_leaf():
    record = Record(seq=3, header=b"", leaf=bytes(32), state=BodyState.LEAF_ONLY, salt=b"", particulars=b"", body=b"")
    shown = json.loads(line(record, 1, held=False))
    assert (shown["seq"], shown["leaf"], shown["body"], shown["kind"], shown["state"]) == (
        3,
        "0" * 64,
        "",
        "",
        "leaf-only",
    )


FLIPPED = {
    1: "UPDATE header SET header = x'a0' WHERE seq = 1",
    2: "UPDATE body SET body = x'41' WHERE id = (SELECT id FROM header WHERE seq = 2)",
    3: "UPDATE header SET leaf = zeroblob(32) WHERE seq = 3",
    4: "UPDATE body SET salt = x'00' WHERE id = (SELECT id FROM header WHERE seq = 4)",
}


def test_flipped_bits_of_the_ledger_show_as_damage_reach_nobody_as_content_and_hold_up_no_listing_or_page(
    realm, tmp_path
):
    with running(realm, tmp_path / "centre") as centre:
        node = TinyNode(realm, centre, "clinic-17", tmp_path / "outbox.sqlite")
        node.add([message(n) for n in range(6)])
        node.session()
        assert node.put(0, 6).status == 200
        node.close()
        centre.kill()
        with closing(SafeDatabase(centre.data / "ledger.sqlite")) as database:
            for statement in FLIPPED.values():
                database.raw().execute(statement)
        centre.start()
        found = centre.records("clinic-17", "his")
        states = ["present", "leaf-only", "damaged", "leaf-only", "damaged", "present"]
        assert [(row["seq"], row["state"]) for row in found] == list(enumerate(states))
        assert [row["seq"] for row in found if row["body"]] == [0, 5]
        assert "record.damaged" in centre.log
        assert centre.get("/").status == 200
        path = "/v1/nodes/clinic-17/streams/his/records/1"
        assert [centre.get(f"{path}/{seq}/evidence").status for seq in range(4)] == [200, 409, 200, 409]
        lost = parse(centre.get(f"{path}/2/evidence").data)
        assert lost.body is None, "what is left is proved; what is altered is not handed out"


@pytest.mark.parametrize(
    ("us", "iso"),
    [(0, "1970-01-01T00:00:00.000000Z"), (-1, "1969-12-31T23:59:59.999999Z"), (2**63, ""), (-(2**62), "")],
)
def test_a_time_beyond_the_calendar_is_empty(us, iso):
    assert moment(us) == iso


# --- evidence


def test_the_evidence_of_each_record_verifies_against_the_authority(gateway, realm):
    anchor = (realm.folder / "ca/ca.pem").read_bytes()
    shown = gateway.records("clinic-17", "his")
    assert len(shown) == 40
    for record in shown:
        answer = gateway.get(f"/v1/nodes/clinic-17/streams/his/records/1/{record['seq']}/evidence")
        assert answer.headers["content-type"] == "application/cbor"
        proved = verify(answer.data, anchor=anchor)
        assert (proved.seq, proved.size, proved.body) == (record["seq"], 40, base64.b64decode(record["body"]))


def test_evidence_with_one_flipped_bit_of_any_byte_does_not_verify(gateway, realm):
    anchor = (realm.folder / "ca/ca.pem").read_bytes()
    data = gateway.get("/v1/nodes/clinic-17/streams/his/records/1/7/evidence").data
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << (at % 8)
        with pytest.raises(BadEvidence):
            verify(bytes(changed), anchor=anchor)


def test_evidence_of_a_trimmed_body_proves_the_header_alone(realm, gateway, tmp_path):
    node = TinyNode(realm, gateway, "trimmed", tmp_path / "outbox.sqlite")
    node.add([message(n) for n in range(2)])
    node.session()
    (kept, gone) = node.records(0, 2)
    bare = Record(
        seq=1, header=gone.header, leaf=gone.leaf, state=BodyState.TRIMMED, salt=b"", particulars=b"", body=b""
    )
    assert node.put(0, 2, data=encode(node.batch(0, 2, records=[kept, bare]))).status == 200
    node.close()
    proved = verify(gateway.get("/v1/nodes/trimmed/streams/his/records/1/1/evidence").data)
    assert (proved.body, proved.seq) == (None, 1)


def test_evidence_carries_the_validity_list_in_force(realm, gateway):
    path = "/v1/nodes/clinic-17/streams/his/records/1/0/evidence"
    before = parse(gateway.get(path).data).validity
    realm.revoke(realm.node("stolen") / "link.pem")
    after = parse(gateway.get(path).data).validity
    assert after == (realm.folder / "ca/crl.der").read_bytes() != before


def test_a_receipted_record_stays_proved_after_its_node_is_revoked(realm, gateway, tmp_path):
    node = TinyNode(realm, gateway, "gone", tmp_path / "outbox.sqlite")
    node.add([message(0)])
    node.session()
    assert node.put(0, 1).status == 200
    node.close()
    path = "/v1/nodes/gone/streams/his/records/1/0/evidence"
    receipt = verify(gateway.get(path).data).time
    certificate = (node.keys / "log.pem").read_bytes()
    revoke(realm.folder / "ca", certificate, now=datetime.fromtimestamp(receipt, UTC) + timedelta(seconds=1))
    assert verify(gateway.get(path).data).seq == 0


def test_without_a_validity_list_there_is_no_evidence_but_all_else(realm, tmp_path):
    with running(realm, tmp_path / "bare", crl=False, open_page=False) as gateway:
        node = TinyNode(realm, gateway, "clinic-17", tmp_path / "outbox.sqlite")
        node.add([message(0)])
        node.session()
        assert node.put(0, 1).status == 200
        node.close()
        assert len(gateway.records("clinic-17", "his")) == 1
        answer = gateway.get("/v1/nodes/clinic-17/streams/his/records/1/0/evidence")
        assert problem(answer) == (409, "no-evidence")
        assert problem(gateway.get("/", token="")) == (401, "unauthorized")
        assert problem(gateway.get("/events", token="")) == (401, "unauthorized")
        assert gateway.get("/").status == 200


# --- the page


def test_the_page_shows_arrivals_without_content_in_both_languages(gateway):
    for lang, direction, word in (("en", "ltr", "Arriving records"), ("ar", "rtl", "السجلات الواردة")):
        answer = gateway.get(f"/?lang={lang}", token="")
        html = answer.data.decode()
        assert f'<html lang="{lang}" dir="{direction}">' in html
        assert word in html
        assert "clinic-17/his/1/<b>39</b>" in html
        assert "MSG0000" not in html
        assert "مريض" not in html
        assert all(answer.headers[name] == value for name, value in HEADERS.items())


def test_the_page_is_live(realm, gateway, tmp_path):
    connection = http.client.HTTPConnection("127.0.0.1", gateway.api_port, timeout=30)
    connection.request("GET", "/events?lang=en")
    stream = connection.getresponse()
    assert stream.headers["content-type"].startswith("text/event-stream")

    def panels() -> dict[str, str]:
        while not (text := stream.readline()).startswith(b"data: "):
            assert text, "the stream ended"
        return json.loads(text[6:])

    assert set(panels()) == {"summary", "alarms", "streams", "arrivals"}
    node = TinyNode(realm, gateway, "newcomer", tmp_path / "outbox.sqlite")
    node.add([message(0)])
    node.session()
    node.put(0, 1)
    node.close()
    while "newcomer/his/1/<b>0</b>" not in panels().get("arrivals", ""):
        pass
    connection.close()


@pytest.mark.parametrize(
    ("name", "media"), [("page.css", "text/css"), ("page.js", "text/javascript"), ("icon.svg", "image/svg+xml")]
)
def test_the_pages_files_are_served_and_nothing_else(gateway, name, media):
    assert gateway.get(f"/static/{name}", token="").headers["content-type"].startswith(media)
    assert problem(gateway.get("/static/..%2fpage.py", token="")) == (404, "not-found")


def test_every_word_of_the_page_has_its_arabic_and_nothing_is_inline():
    words = set()
    for file in TEMPLATES.glob("*.html"):
        text = file.read_text()
        words |= {found[2] for found in re.finditer(r"""_\((["'])(.*?)\1\)""", text)}
        assert not re.search(r"<style|style=|<script(?! defer src)|\son\w+=", text), file
    assert {"Nodes", "Arriving records"} <= words <= set(WORDS)
    assert {sentence for _, sentence in ALARMS.values()} <= set(WORDS)
    assert {verdict.word for verdict in Verdict} <= set(WORDS)
