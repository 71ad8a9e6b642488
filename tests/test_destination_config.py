"""Destinations in the configuration: what is allowed, and what is said of what is not; which messages of a record are theirs."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7.answer import read_answer
from hl7.batch import _ranges, refused_in
from node.config.config import check, load
from node.config.destinations import FhirOut, FolderOut, MllpOut
from node.config.problems import ConfigError
from node.destinations.selection import Selection
from node.destinations.trouble import Trouble
from sync.header import CONTROL_ID, REFUSAL, Header, encode_particulars
from sync.record import BodyState, Kind, Record, Verdict
from tests.convert_rig import ORIGIN
from tests.node_rig import ROOT, message

HEAD = """[node]
name = "clinic-7"
facility = "F"
site = { en = "A", ar = "ب" }
data_dir = "data"
[keys]
link_key = "a"
link_certificate = "a"
log_key = "a"
log_certificate = "a"
ca = "a"
[[feeds]]
name = "his"
kind = "mllp"
listen = ["127.0.0.1:2575"]
"""
GOOD = '[[destinations]]\nname = "lis"\nkind = "mllp"\naddress = "10.0.0.5:2575"\nstreams = ["his"]\n'


def problems(tmp_path, text: str) -> str:
    path = tmp_path / "node.toml"
    path.write_text(HEAD + text, encoding="utf-8")
    try:
        load(path)
    except ConfigError as refusal:
        return str(refusal)
    return ""


def test_the_example_holds_every_key_of_every_kind():
    text = (ROOT / "docs/examples/node.toml").read_text(encoding="utf-8")
    keys = {field.alias or name for kind in (MllpOut, FolderOut, FhirOut) for name, field in kind.model_fields.items()}
    assert [key for key in keys if f"{key} =" not in text and f"[destinations.{key}]" not in text] == []
    config = load(ROOT / "docs/examples/node.toml")
    assert [each.kind for each in config.destinations] == ["mllp", "folder", "fhir"]


def test_what_is_left_out_is_careful(tmp_path):
    assert problems(tmp_path, GOOD) == ""
    (made,) = load(tmp_path / "node.toml").destinations
    assert (made.begin, made.on_refusal, made.acknowledgement, made.sequence_numbers) == (
        "end",
        "park",
        "always",
        False,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + GOOD, 'destinations[lis].name: "lis" is taken already, on line 17'),
        (GOOD.replace('"his"', '"lab"'), 'destinations[lis].streams[#1]: "lab" is no stream of this node; allowed: his'),
        (GOOD.replace('["his"]', "[]"), "must not be empty"),
        (GOOD.replace('["his"]', '["his", "his"]'), "must not name a stream twice"),
        (GOOD.replace('"mllp"', '"mlpp"'), "this release does not take"),
        (GOOD.replace(":2575", ":0"), "must name a port"),
        (GOOD + 'form = "start"\n', "unknown key"),
        (GOOD + 'form = "start"\n', "did you mean from?"),
        (GOOD + 'from = "middle"\n', "allowed: end, start"),
        (GOOD + 'types = ["ADT A01"]\n', "must be a type"),
        (GOOD + "files_max = 3\n", "unknown key"),
        (GOOD.replace('["his"]', '["his", "two"]') + 'sequence_numbers = true\n[[streams]]\nname = "two"\n', "counts one stream"),
        (GOOD + '[destinations.tls]\nca = "a"\nkey = "b"\n', "certificate and key belong together"),
        ('[[destinations]]\nname = "f"\nkind = "fhir"\nurl = "ftp://x"\nstreams = ["his"]\n', 'must begin with "http://" or "https://"'),
        ('[[destinations]]\nname = "f"\nkind = "fhir"\nurl = "http://a:b@x/"\nstreams = ["his"]\n', "must hold no user"),
        ('[[destinations]]\nname = "f"\nkind = "fhir"\nurl = "http://x/"\nstreams = ["his"]\n[destinations.tls]\nca = "a"\n', "is of no use"),
        ('[[destinations]]\nname = "f"\nkind = "folder"\nstreams = ["his"]\n', "destinations[f].path: is missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_said_with_its_place(tmp_path, text, said):
    assert said in problems(tmp_path, text)


def test_files_that_are_named_must_be_readable(tmp_path):
    more = '[[destinations]]\nname = "f"\nkind = "fhir"\nurl = "https://x/"\nstreams = ["his"]\nbearer_token = "t"\n'
    (tmp_path / "node.toml").write_text(
        HEAD + GOOD + '[destinations.tls]\nca = "c"\ncertificate = "d"\nkey = "e"\n' + more, encoding="utf-8"
    )
    said = "\n".join(map(str, check(tmp_path / "node.toml")))
    for key in (
        "destinations[lis].tls.ca",
        "destinations[lis].tls.certificate",
        "destinations[lis].tls.key",
        "destinations[f].bearer_token",
    ):
        assert key in said


# ---- which messages ------------------------------------------------------------------------------------------------------
def header(**more) -> Header:
    return Header(
        **{
            "kind": Kind.MESSAGE, "facility": "F", "feed": "his", "content_type": "application/hl7-v2+er7", "message_type": "ADT^A01", "received_us": 1,
            "clock_state": 0, "clock_error_us": 0, "verdict": Verdict.ACCEPTED, "body_bytes": 0, "protection": 0, "commitment": bytes(32), **more,
        }
    )  # fmt: skip


def record(body: bytes, *pairs) -> Record:
    particulars = encode_particulars(((CONTROL_ID, "A-1"), *pairs))
    return Record(seq=0, header=b"h", leaf=b"", state=BodyState.PRESENT, salt=b"", particulars=particulars, body=body)


@pytest.mark.parametrize(
    ("types", "message_type", "wanted"),
    [
        ((), "", True), ((), "ADT^A01", True), (("ADT",), "ADT^A01", True), (("ADT^A0?",), "ADT^A08^ADT_A01", True), (("ADT^A0?",), "ADT^A40", False),
        (("ORU^*",), "ADT^A01", False), (("ORU^*",), "", False), (("Patient",), "Patient", True), (("Bundle^transaction",), "Bundle^batch", False),
        (("A*",), "ACK", True), (("ORU", "ORM^O01"), "ORM^O01", True),
    ],
)  # fmt: skip
def test_types_are_globs_over_code_and_event(types, message_type, wanted):
    assert Selection(types).wants(message_type) is wanted


def test_a_batch_is_chosen_message_by_message_whatever_its_first_one_is():
    body = (
        b"BHS|^~\\&|X\r" + message("A-1") + message("A-2", kind="ORU^R01") + message("A-3", kind="ORU^R01") + b"BTS|3\r"
    )
    refusal = (REFUSAL, ("HL7-13", "3"))
    parts = Selection(("ORU",)).parts(header(), record(body, refusal), ORIGIN)
    assert [(part.part, part.control_id, part.body) for part in parts] == [(1, "A-2", message("A-2", kind="ORU^R01"))]
    assert Selection(()).parts(header(), record(b"BHS|^~\\&|X\rBTS|0\r"), ORIGIN) == []


@given(st.sets(st.integers(1, 4096), max_size=200))
def test_refused_messages_are_read_back_as_they_were_written(numbers):
    assert refused_in(_ranges(sorted(numbers))) == numbers


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda raw: b"MSH|^~\\&|A\rMSA|AA|" + raw))
def test_no_bytes_of_a_peer_raise(raw):
    answer = read_answer(raw)
    assert answer is None or answer.error.isdecimal() or not answer.error


def test_pauses_grow_are_bounded_and_heed_what_the_peer_asks_for():
    trouble = Trouble(random.Random(1).random, 600.0)
    pauses = []
    for _ in range(20):
        trouble.failed("DST-11", 0.0)
        pauses.append(trouble.not_before)
    assert pauses[0] < 1 < pauses[7] <= max(pauses) <= 60
    trouble.failed("DST-11", 0.0, 300.0)
    assert trouble.not_before == 300.0
    assert not trouble.is_grave(599.0)
    assert trouble.is_grave(600.0)
    trouble.passed()
    assert (trouble.is_grave(9e9), trouble.not_before) == (False, float("-inf"))
    trouble.failed("DST-13", 0.0)
    assert trouble.is_grave(0.0)
