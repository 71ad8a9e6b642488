"""Signatures that sources bring, in a running node: what a feed demands, what it tells, and that a worker in trouble harms nobody. The verdicts: test_soap_signatures.py."""

import contextlib
import json
import subprocess
import sys

import pytest

from node.clock import SystemClock
from node.errors import AuthoritiesBad
from node.signatures.check import Checker
from sync.header import SIGNATURES
from sync.record import Verdict
from tests.fhir_rig import Http, request
from tests.node_rig import Feed, Node, Realm, Reply, message, running, wait_until
from tests.signing_rig import authorities, make, sign, sign_body, sign_bundle
from tests.soap_rig import CDA, SOAP, Heard, SoapFeed, mtom, post
from tests.xml_samples import v3, x12

ROOT_CA = make("Test Authority", is_ca=True)
DOCTOR = make("Dr. Test", ROOT_CA)
STRANGER = make("Stranger", make("Other Authority", is_ca=True))
BUNDLE = {
    "resourceType": "Bundle",
    "id": "b",
    "type": "document",
    "entry": [{"resource": {"resourceType": "Composition", "title": "تقرير"}}],
}


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    return Realm.make(tmp_path_factory.mktemp("realm"))


class FhirFeed(Feed):
    def text(self):
        return super().text().replace('kind = "mllp"', 'kind = "fhir"')


@pytest.fixture(scope="module")
def node(realm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("node")
    feeds = [
        Feed("his", lines='signatures = "verified"'), Feed("signed", lines='signatures = "required"'),
        SoapFeed("xds", lines='signatures = "required"'), FhirFeed("app", lines='signatures = "required"'),
    ]  # fmt: skip
    more = f'[signatures]\nauthorities = "{authorities(folder / "signers", ROOT_CA)}"'
    with running(Node(realm, folder, feeds=feeds, more=more)) as node:
        yield node


def newest(node, stream):
    return node.records(stream)[-1]


def told(seen):
    return [each[2] for each in seen.particulars.get(SIGNATURES, [])]


def say(node, *position):
    command = [
        sys.executable,
        "-m",
        "node.cli",
        "record",
        "--config",
        str(node.folder / "node.toml"),
        *map(str, position),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_feed_that_demands_takes_what_is_signed_and_refuses_all_else(node):
    bad = [
        CDA,
        sign(CDA, STRANGER),
        sign(CDA, DOCTOR).replace(b"TEST-DOC-1", b"TEST-DOC-9"),
        v3(1),
        x12(1),
        message("M-1"),
        b"junk",
    ]
    good = sign(CDA, DOCTOR)
    with node.mllp("signed") as mllp:
        for raw in bad:
            mllp.send(raw)
            reply = mllp.reply()
            assert b'<typeCode code="CA"' not in reply
            if not reply.startswith(b"<"):
                assert Reply(reply).code in {"AE", "AR"}
            seen = newest(node, "signed")
            assert (seen.body, seen.header.verdict) == (raw, Verdict.REJECTED)
            assert seen.refusal in {"HL7-18", "HL7-15"}
        mllp.send(good)
        assert Reply(mllp.reply()).code == "AA"
    seen = newest(node, "signed")
    assert (seen.body, seen.header.verdict, told(seen)) == (good, Verdict.ACCEPTED, ["valid"])


def test_frames_behind_one_that_is_verified_keep_their_order(node):
    with node.mllp("signed") as mllp:
        mllp.send(
            sign(CDA.replace(b"TEST-DOC-1", b"A"), DOCTOR),
            message("M-2"),
            sign(CDA.replace(b"TEST-DOC-1", b"B"), DOCTOR),
        )
        assert [Reply(mllp.reply()).code for _ in range(3)] == ["AA", "AR", "AA"]


def test_many_at_once_wait_for_their_turn_and_none_is_refused_for_it(node):
    documents = [sign(CDA.replace(b"TEST-DOC-1", b"MANY-%d" % n), DOCTOR) for n in range(30)]
    with contextlib.ExitStack() as stack:
        senders = [stack.enter_context(node.mllp("signed")) for _ in documents]
        for sender, raw in zip(senders, documents, strict=True):
            sender.send(raw)
        assert [Reply(sender.reply()).code for sender in senders] == ["AA"] * 30


def test_a_soap_feed_that_demands_refuses_before_the_commit(node):
    with Http(node.feed("xds").address) as http:
        answer = post(http, mtom(CDA))
        assert (Heard(answer).fault, newest(node, "xds").refusal) == ("SOP-09", "SOP-09")
        assert Heard(post(http, sign_body(DOCTOR), SOAP)).status == "Success"
    assert told(newest(node, "xds")) == ["valid"]


def test_a_fhir_feed_that_demands_takes_signed_bundles(node):
    with Http(node.feed("app").address) as http:
        bundle = {**BUNDLE, "type": "collection"}
        http.write(request("POST", "/Bundle", json.dumps(bundle).encode()))
        assert http.answer().status == 422
        http.write(request("POST", "/Bundle", sign_bundle(bundle, DOCTOR)))
        assert http.answer().status == 201
    assert told(newest(node, "app")) == ["valid"]


def test_a_feed_that_verifies_takes_all_counts_and_tells(node):
    with node.mllp() as mllp:
        for raw in (sign(CDA, DOCTOR), sign(CDA, STRANGER)):
            mllp.send(raw)
            assert Reply(mllp.reply()).code == "AA"
    counts = {"valid": 1, "unknown signer": 1}
    wait_until("both verified", lambda: node.ask("status")["feeds"]["his"]["signatures"] == counts)
    seen = newest(node, "his")
    assert (seen.body, told(seen)) == (raw, [""])
    done = say(node, "his", 1, 1)
    assert done.returncode == 0, done.stderr
    assert "over the document: unknown signer now" in done.stdout
    assert "مريض" not in done.stdout
    assert "over the document: valid now" in say(node, "his", 1, 0).stdout
    assert say(node, "his", 1, 99).returncode == 1


def test_a_worker_that_hangs_stops_no_other_feed_and_no_demand_is_met(realm, tmp_path):
    before = "import node.worker as w; w.START_S_MAX = 0.05"
    more = f'[signatures]\nauthorities = "{authorities(tmp_path / "signers", ROOT_CA)}"'
    feeds = [Feed("his"), Feed("signed", lines='signatures = "required"')]
    with running(Node(realm, tmp_path, feeds=feeds, more=more), before=before) as node:
        with node.mllp("signed") as mllp:
            mllp.send(sign(CDA, DOCTOR))
            assert Reply(mllp.reply()).code == "AE"
        assert newest(node, "signed").particulars[8][1] == "not verified in time"
        assert node.send(message("M-9"))[0].code == "AA"


def test_a_folder_that_became_bad_is_an_alarm_of_the_node_and_meets_no_demand(realm, tmp_path):
    folder = authorities(tmp_path / "signers", ROOT_CA)
    more = f'[signatures]\nauthorities = "{folder}"'
    with running(Node(realm, tmp_path, feeds=[Feed("signed", lines='signatures = "required"')], more=more)) as node:
        (folder / "bad.crl").write_bytes(b"no list")
        with node.mllp("signed") as mllp:
            mllp.send(sign(CDA, DOCTOR))
            assert Reply(mllp.reply()).code == "AE"
            assert newest(node, "signed").particulars[8][1] == "unknown: the site's authorities cannot be read"
            assert [each["code"] for each in node.ask("status")["alarms"]] == ["NOD-43"]
            (folder / "bad.crl").unlink()
            mllp.send(sign(CDA, DOCTOR))
            assert Reply(mllp.reply()).code == "AA"
        assert node.ask("status")["alarms"] == []


@pytest.mark.parametrize("files", [{}, {"a.txt": ROOT_CA.pem}, {"a.pem": ROOT_CA.pem, "b.pem": b"no certificate"}])
def test_authorities_that_cannot_be_read_stop_the_start(tmp_path, files):
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(AuthoritiesBad):
        Checker(tmp_path, SystemClock())


def test_the_core_never_holds_the_libraries_that_read_strangers_signatures():
    code = "import sys, node.app, node.record, node.feeds.soap, node.feeds.fhir; print(sorted({'lxml', 'signxml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
