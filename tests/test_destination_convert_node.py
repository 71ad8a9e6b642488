"""Destinations that convert in a node: killed at any moment, beside a listener that others wrote, and as they are configured."""

import os
import subprocess

import pytest
import urllib3

from hl7.convert.result import Origin
from node.clock import iso
from node.config.config import load
from node.destinations.plug import FHIR_JSON, End
from tests.convert_rig import hospital
from tests.destination_rig import EAGER, destination, parked, to
from tests.fhir_rig import FhirFeed
from tests.fhir_sink_rig import REPORT, VALUE, bundle, outgoing, sink
from tests.fhir_store import FhirStore
from tests.node_rig import ROOT, Feed, Node, Realm, free_port, running, wait_until
from tests.test_convert_back import ORDER, PATIENT
from tests.test_destination_config import GOOD, problems


@pytest.fixture
def store():
    with FhirStore().serving() as found:
        yield found


def table(store, more: str = "") -> str:
    return f'[[destinations]]\nname = "server"\nkind = "fhir"\nurl = "{store.url}"\nstreams = ["his"]\nzone = "Asia/Riyadh"\n{more}\n'


# ---- in a node -------------------------------------------------------------------------------------------------------
def test_a_node_killed_at_any_moment_leaves_at_the_server_what_an_undisturbed_one_leaves(tmp_path, store):
    test, *sent = hospital(41)  # what the simulated hospital says is marked as a test
    raws = [raw.replace(b"|T|2.5", b"|P|2.5") for raw in sent]
    node = Node(
        Realm.make(tmp_path / "realm"),
        tmp_path / "n",
        feeds=[Feed("his", check='charset_default = "utf-8"')],
        more=table(store),
    )
    with running(node, before=EAGER) as node:
        node.send(test)
        for start in range(0, len(raws), 10):
            node.send(*raws[start : start + 10])
            node.restart(before=EAGER)
        wait_until(
            "all of them",
            lambda: (
                len({each["entity"][0]["what"]["identifier"]["value"] for each in store.of("Provenance")}) == len(raws)
            ),
        )
        wait_until("nothing waits", lambda: node.ask("destination list")[0]["waiting"] == 0)
        found = destination(node, "server")["conversion"]
        told = node.ask("destination unmapped server")
        rows = parked(node, "server")
        records = node.records()
    assert rows == []
    assert (told, found["converted"] >= 1, len(records)) == (found, True, 41)
    with FhirStore().serving() as calm:
        client = sink(calm, zone="Asia/Riyadh")
        for each in records[1:]:
            origin = Origin(
                facility=each.header.facility, stream="his", epoch=1, seq=each.record.seq, leaf=each.record.leaf.hex(),
                received_at=iso(each.header.received_us),
            )  # fmt: skip
            assert client.deliver(outgoing(each.body, each.record.seq, origin=origin)).end is End.TAKEN
        client.close()
        assert (store.resources, store.versions) == (calm.resources, calm.versions)


def test_orders_that_come_as_fhir_reach_a_listener_that_others_wrote_and_the_rest_is_parked_with_its_reason(tmp_path):
    port, said = free_port(), tmp_path / "said"
    script = tmp_path / "peer.py"
    script.write_text(LISTENER)
    feed = FhirFeed("fhir")
    node = Node(
        Realm.make(tmp_path / "realm"), tmp_path / "n", feeds=[feed],
        more=to(port, streams='"fhir"', more='convert = "v2"'),
    )  # fmt: skip
    with said.open("wb") as out, running(node, before=EAGER) as node:
        peer = subprocess.Popen(
            [str(ROOT / "peers/py/bin/python"), str(script), str(port)], cwd=tmp_path, env=os.environ, stdout=out
        )
        try:
            http = urllib3.PoolManager()
            for body in (bundle(PATIENT, ORDER, REPORT, VALUE), bundle(PATIENT)):
                answer = http.request("POST", feed.base, body=body, headers={"Content-Type": FHIR_JSON})
                assert answer.status < 300
            wait_until(
                "both messages and what is none", lambda: destination(node)["taken"] == 2 and len(parked(node)) == 1
            )
            rows = parked(node)
            assert destination(node)["conversion"]["converted"] == 1
        finally:
            peer.kill()
            peer.wait()
    assert [(row["reason"], row["detail"]) for row in rows] == [("DST-02", "type")]
    heard = said.read_text(encoding="utf-8").splitlines()
    assert list(dict.fromkeys(heard)) == ["OML^O21^OML_O21 الحربي^مريم", "ORU^R01^ORU_R01 الحربي^مريم"]


LISTENER = """
import asyncio, sys, hl7.mllp as m
sys.stdout.reconfigure(encoding="utf-8")
async def cb(r, w):
    try:
        while True:
            got = await r.readmessage()
            print(got.segment("MSH")[9], got.segment("PID")[5], flush=True)
            w.writemessage(got.create_ack()); await w.drain()
    except asyncio.IncompleteReadError:
        w.close()
async def main():
    s = await m.start_hl7_server(cb, "127.0.0.1", int(sys.argv[1]), encoding="utf-8")
    await s.serve_forever()
asyncio.run(main())
"""
FHIR = '[[destinations]]\nname = "f"\nkind = "fhir"\nurl = "http://x/"\nstreams = ["his"]\n'


# ---- configuration ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FHIR + 'convert = "v2"\n', "allowed: transaction, message, none"), (FHIR + 'zone = "Mars/North"\n', "must be a zone of time"),
        (FHIR + 'zone = "+3"\n', "must be a zone of time"), (FHIR + 'systems = { MOI = "not a uri" }\n', "must be a URI"),
        (GOOD + 'convert = "transaction"\n', "allowed: none, v2"), (GOOD + 'charset = "utf-16"\n', "must be a character set that MLLP can carry"),
        (GOOD + 'zone = "Asia/Riyadh"\n', "unknown key"),
    ],
)  # fmt: skip
def test_a_conversion_that_cannot_be_meant_is_said_with_its_place(tmp_path, text, said):
    assert said in problems(tmp_path, text)


def test_what_is_converted_unless_told_otherwise(tmp_path):
    assert problems(tmp_path, GOOD + FHIR + 'systems = { MOI = "http://nphies.sa/identifier/nationalid" }\n') == ""
    lis, server = load(tmp_path / "node.toml").destinations
    assert (lis.convert, server.convert, server.zone) == ("none", "transaction", "")
    assert server.systems == {"MOI": "http://nphies.sa/identifier/nationalid"}
