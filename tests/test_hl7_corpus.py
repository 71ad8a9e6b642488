"""Messages that others wrote: every one is framed, viewed, judged and answered. Without the corpus, our own stand in."""

import csv
import random
import re
from pathlib import Path as File

import pytest

from hl7.ack import acknowledge
from hl7.check import NO_RULES, Outcome, check
from hl7.message import Message, facts
from hl7.mllp import Decoder, Frame, encode

CORPUS = File(__file__).resolve().parents[2] / "shared" / "corpus"
WRAPPED = re.compile(rb"(?<!\r)\n(?![A-Z][A-Z0-9]{2}\||\s)")  # among CRs: a line break inside a field, not a segment
NOW = b"20260101120000+0400"


def generated() -> list[tuple[dict[str, str], bytes]]:
    """Messages of ours in the shapes that the corpus has, with an index row each."""
    rows = []
    for number, (mark, declared, terminator, charset, codec) in enumerate(
        (mark, declared, terminator, charset, codec)
        for mark, declared in (("|", "^~\\&"), ("|", "^~\\&#"), ("|", "^~&"), ("$", "%~\\&"), ("^", "~|\\&"))
        for terminator in ("\r", "\n", "\r\n")
        for charset, codec in (("", "ascii"), ("UNICODE UTF-8", "utf-8"), ("8859/6", "iso8859_6"))
    ):
        name = "TEST" if codec == "ascii" else "اختبار"
        of = declared[0]
        segments: list[list[str]] = [
            [f"MSH{mark}{declared}", "LAB", "CLINIC", "HIS", "MOH", "20260101", "", f"ORU{of}R01{of}ORU_R01"],
            ["PID", "1", "", f"70000{number}", "", f"{name}{of}MARYAM"],
            *[["OBX", str(at), "NM", f"2345-7{of}Glucose", "", f"5.{at}", "mmol/L"] for at in range(number)],
            ["ZLB", "end"],
        ]
        segments[0] += [f"G{number}", "T", "2.5.1", "", "", "", "", "", charset]
        text = terminator.join(mark.join(segment) for segment in segments)
        row = {
            "path": f"generated {number}",
            "quality": "clean",
            "kind": "file",
            "message_type": "ORU_R01",
            "version": "2.5.1",
        }
        rows.append((row | {"msh18": charset, "segments": str(len(segments))}, text.encode(codec)))
    return rows


@pytest.fixture(scope="module")
def messages(request) -> list[tuple[dict[str, str], bytes]]:
    """Rows of the index, each with its message."""
    if not (CORPUS / "INDEX.tsv").is_file():
        with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
            print(f"\nno corpus at {CORPUS}: generated messages instead")
        return generated()
    with (CORPUS / "INDEX.tsv").open(encoding="utf-8", newline="") as index:
        return [(row, (CORPUS / row["path"]).read_bytes()) for row in csv.DictReader(index, delimiter="\t")]


def test_generated_messages_can_stand_in_for_the_corpus():
    for row, raw in generated():
        assert check(raw, NO_RULES).outcome is Outcome.ACCEPTED, row
        assert Message(raw).count == int(row["segments"]), row


def test_every_message_is_accepted_and_answered_with_its_own_id(messages):
    for row, raw in messages:
        verdict = check(raw, NO_RULES)
        assert verdict.outcome is not Outcome.REJECTED, row["path"]
        assert verdict.facts is not None, row["path"]
        reply = Message(acknowledge(raw, verdict, control_id=b"N1", now=NOW))
        wanted = verdict.facts.control_id.translate(None, b"\r\n")
        assert reply.read(["MSA-1", "MSA-2"]) == [b"AA", wanted], row["path"]


def test_facts_are_what_the_corpus_says_about_each_message(messages):
    for row, raw in messages:
        if row["quality"] != "clean":
            continue
        found = facts(raw).route
        separators = Message(raw).separators
        component = bytes([separators.component or ord("^")])
        parts = found.message_type.split(component)
        assert found.version.split(component)[0].decode().strip() == row["version"], row["path"]
        assert found.character_set.decode() == row["msh18"], row["path"]
        assert [found.message_code, found.trigger_event] == [*parts, b""][:2], row["path"]


def test_the_view_finds_every_segment_of_the_corpus(messages):
    for row, raw in messages:
        message = Message(raw)
        lines = [line for line in raw.replace(b"\n", b"\r").split(b"\r") if line]
        if b"\r" not in raw or raw.count(b"\r\n") == raw.count(b"\n"):
            assert [raw[slice(*span)] for _, span in message.segments()] == lines, row["path"]
        if row["quality"] == "clean":
            wrapped = len(WRAPPED.findall(raw.strip())) if b"\r" in raw else 0
            assert message.count == int(row["segments"]) - wrapped, row["path"]


def test_the_whole_corpus_crosses_the_wire_in_any_chunks(messages):
    dice = random.Random(20260101)
    payloads = [raw for _, raw in messages if not {0x0B, 0x1C} & set(raw)]
    assert len(payloads) >= len(messages) - 3
    wire, decoder, at = b"".join(map(encode, payloads)), Decoder(), 0
    frames = []
    while at < len(wire):
        size = dice.choice((1, 7, 100, 1460, 65536))
        frames += decoder.receive(wire[at : at + size])
        at += size
    assert frames + decoder.finish() == [Frame(payload) for payload in payloads]
    assert (decoder.noise_bytes, decoder.bare_ends) == (0, 0)
