"""The vectors of docs/wire.md: our code reproduces each byte of them, and reads them back."""

import ast
import base64
import json
from dataclasses import replace
from hashlib import sha256
from io import BytesIO

import cbor2
import pytest
from backports import zstd
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from native import body_commitment, leaf_hashes
from sync import batch, control, evidence, header
from sync.announced import read_heads
from sync.answer import open_answer
from sync.certificates import read, verifier_of
from sync.checkpoint import open_checkpoint, parse_note, verify_note
from sync.context import recall
from sync.dictionary import Shelf
from sync.dictionary import make as make_dictionary
from sync.key_change import read_key_change
from sync.key_ring import id_of
from sync.keys import Verifier, key_id
from sync.log import Frontier, root_from_proof
from sync.log_keys import LogKeys, check_opening
from sync.names import Origin
from sync.opening import open_opening
from sync.receipt import lengthen, open_receipt, shorten
from sync.release import open_release
from sync.seal import place, unseal
from sync.session import read_answer, read_request
from tests.vectors import make


def vector(name: str):
    return json.loads((make.FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def test_each_vector_file_has_its_maker_and_each_maker_its_file():
    assert {file.stem for file in make.FOLDER.glob("*.json")} == set(make.VECTORS)


@pytest.mark.parametrize("name", make.VECTORS)
def test_code_of_today_makes_the_same_bytes_as_the_day_the_vectors_were_made(name):
    assert make.text(name) == (make.FOLDER / f"{name}.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("case", vector("cbor"), ids=lambda case: case["value"][:20])
def test_cbor2_reads_and_writes_the_bytes_that_are_pinned(case):
    data, value = bytes.fromhex(case["hex"]), ast.literal_eval(case["value"])
    assert cbor2.dumps(value, canonical=True) == data
    assert cbor2.loads(data) == value


@pytest.mark.parametrize("case", vector("header"))
def test_header_vector_reads_back_as_its_fields(case):
    found = header.decode(bytes.fromhex(case["hex"]))
    fields = dict(case["fields"])
    assert found.commitment.hex() == fields.pop("commitment")
    assert found.after == (tuple(fields["after"]) if fields["after"] else None)
    del fields["after"]
    assert {name: getattr(found, name) for name in fields} == fields


@pytest.mark.parametrize("case", vector("particulars"))
def test_particulars_vector_reads_back_as_its_pairs(case):
    pairs = {key: list(value) if isinstance(value, tuple) else value for key, value in ast.literal_eval(case["pairs"])}
    assert header.decode_particulars(bytes.fromhex(case["hex"])) == pairs


@pytest.mark.parametrize("case", vector("commitment"))
def test_commitment_vector_is_the_hash_that_the_text_says(case):
    salt, particulars = bytes.fromhex(case["salt"]), bytes.fromhex(case["particulars"])
    body = b"x" * 70_000 if case["body"] == "78 x 70000" else bytes.fromhex(case["body"])
    assert body_commitment(salt, particulars, body).hex() == case["commitment"]
    assert sha256(salt + cbor2.dumps(particulars) + body).hexdigest() == case["commitment"]


def test_log_vectors_are_those_of_the_tree():
    found = vector("log")
    leaves = [leaf_hashes([n.to_bytes(4)]) for n in range(1025)]
    assert [leaf.hex() for leaf in leaves[:8]] == found["leaves"]
    record = found["record"]
    assert sha256(b"\0" + bytes.fromhex(record["header"])).hexdigest() == record["leaf"]
    for size, root in found["roots"].items():
        assert Frontier().append(b"".join(leaves[: int(size)])).root.hex() == root
    for proof in found["proofs"]:
        path = [bytes.fromhex(step) for step in proof["path"]]
        assert root_from_proof(leaves[proof["leaf"]], proof["leaf"], proof["size"], path) == Frontier().append(
            b"".join(leaves[: proof["size"]])
        ).root  # fmt: skip


def test_note_vectors_verify_under_their_keys():
    found = vector("note")
    log_key, cosign_key = found["log_key"], found["cosign_key"]
    for key in (log_key, cosign_key):
        assert key_id(key["name"], int(key["algorithm"], 16), bytes.fromhex(key["public"])).hex() == key["key_id"]
    checkpoint = open_checkpoint(
        found["checkpoint"]["note"].encode(), Verifier(log_key["name"], bytes.fromhex(log_key["public"]))
    )
    receipt = open_receipt(
        found["receipt"]["note"].encode(), Verifier(cosign_key["name"], bytes.fromhex(cosign_key["public"]))
    )
    assert (str(checkpoint.origin), checkpoint.size, checkpoint.root.hex()) == tuple(
        found["checkpoint"][key] for key in ("origin", "size", "root")
    )
    assert (receipt.checkpoint, receipt.time) == (checkpoint, found["receipt"]["time"])


@pytest.mark.parametrize("case", [*vector("batch"), *vector("batch2")])
def test_batch_vector_decodes_to_its_headers_and_leaves_and_its_checkpoint_covers_them(case):
    found = batch.decode(zstd.compress(bytes.fromhex(case["cbor"])))
    assert found.first == case["first"]
    said = [
        {"state": record.state.word, "header": record.header.hex(), "leaf": record.leaf.hex()}
        for record in found.records
    ]
    assert said == case["records"]
    checkpoint = open_checkpoint(found.checkpoint, Verifier(make.NODE, make.LOG_SIGNER.public))
    before = [record.leaf for record in make.MIXED[: found.first]]
    root = Frontier().append(b"".join([*before, *(record.leaf for record in found.records)])).root
    assert (checkpoint.size, checkpoint.root) == (found.first + len(found.records), root)


@pytest.mark.parametrize("case", vector("dictionary")["dictionaries"], ids=lambda case: case["file"])
def test_dictionary_vector_decodes_under_the_file_that_its_hash_names(case):
    content = (make.FOLDER.parents[1] / "sync/dictionaries" / case["file"]).read_bytes()
    assert sha256(content).hexdigest() == case["sha256"]
    data = bytes.fromhex(case["batch"])
    assert data[:40] == bytes.fromhex("5e2a4d1820000000" + case["sha256"])
    assert zstd.decompress(data[40:], zstd.ZstdDict(content)).hex() == vector("dictionary")["cbor"]
    assert len(batch.decode(data, Shelf([make_dictionary(content)])).records) == 3


def test_context_vector_is_made_of_its_records_and_its_batch_is_read_after_it():
    found = vector("context")
    held = [
        replace(record, salt=bytes(16), **{key: bytes.fromhex(row[key]) for key in ("header", "particulars", "body")})
        for record, row in zip(make.RECORDS, found["records"], strict=False)
    ]
    content = recall(make.MemoryRecords(held), make.ORIGIN, found["first"], found["count"])
    assert (str(make.ORIGIN), content.hex()) == (found["origin"], found["content"])
    data, name = bytes.fromhex(found["batch"]), bytes.fromhex(found["name"])
    assert name == bytes.fromhex("5f2a4d180a000000") + found["count"].to_bytes(2, "big") + sha256(content).digest()[:8]
    assert data.startswith(name)
    frame = data[len(name) :]
    assert zstd.decompress(frame, zstd.ZstdDict(content, is_raw=True).as_prefix).hex() == found["cbor"]
    assert batch.decode(data, recall=lambda _: content) == batch.decode(zstd.compress(bytes.fromhex(found["cbor"])))


def test_short_receipt_vector_is_the_receipt_without_the_checkpoint_that_was_sent():
    found = {key: value.encode() for key, value in vector("short").items()}
    assert found["receipt"] == found["checkpoint"] + found["answer"]
    assert shorten(found["receipt"], found["checkpoint"]) == found["answer"]
    assert lengthen(found["answer"], found["checkpoint"]) == found["receipt"]
    assert lengthen(found["receipt"], found["checkpoint"]) == found["receipt"]


def test_session_vectors_are_read():
    found = vector("session")
    assert read_request(json.dumps(found["request"]).encode()).streams[0].stream == make.STREAM
    (told,) = read_answer(json.dumps(found["answer"]).encode()).streams
    assert (told.size, told.key) == (3, b"")
    (keyed,) = read_answer(json.dumps(found["answer_with_key"]).encode()).streams
    assert keyed == replace(told, key=id_of(make.LOG_SIGNER))


def test_heads_vector_says_what_it_says():
    found = vector("heads")
    request = read_request(json.dumps(found["request"]).encode())
    heads = read_heads(request.heads, [Verifier(make.NODE, make.LOG_SIGNER.public)], make.NODE)
    assert [{"origin": str(head.origin), "size": head.size, "root": head.root.hex()} for head in heads] == found["says"]


@pytest.mark.parametrize("form", ["present", "trimmed"])
def test_evidence_vector_proves_what_it_says(form):
    found = vector("evidence")
    proved = evidence.verify(bytes.fromhex(found[form]), anchor=found["anchor"].encode())
    said = found["says"]
    assert (proved.origin.node, proved.origin.stream, proved.origin.epoch, proved.origin.tag) == tuple(
        said[key] for key in ("node", "stream", "epoch", "tag")
    )
    assert (proved.seq, proved.size, proved.time, proved.gateway) == tuple(
        said[key] for key in ("seq", "size", "time", "gateway")
    )
    assert proved.anchor_sha256 == found["anchor_sha256"]
    assert proved.body == (bytes.fromhex(said["body"]) if form == "present" else None)
    assert evidence.parse(bytes.fromhex(found[form])).encode().hex() == found[form]
    assert (
        replace(evidence.parse(bytes.fromhex(found["present"])), salt=None, particulars=None, body=None).encode().hex()
        == found["trimmed"]
    )


def test_opening_and_release_vectors_verify_and_say_what_they_say():
    found = vector("opening")
    key = Verifier(make.NODE, bytes.fromhex(found["log_public"]))
    linked, alone = (open_opening(found[name].encode(), key) for name in ("linked", "alone"))
    assert (str(linked.opened), linked.common.size, linked.carried, linked.hole) == (
        "clinic-17/his/2-11111111",
        2,
        1,
        (2, 7),
    )
    assert (alone.theirs, alone.hole, alone.carried) == (None, (0, 0), 0)
    release = open_release(found["release"].encode(), Verifier("amal", bytes.fromhex(found["operator_public"])))
    assert (release.node, release.logs) == (make.NODE, (linked.opened,))


@pytest.mark.parametrize("case", vector("control"), ids=lambda case: case["says"])
def test_control_records_read_back(case):
    made = header.decode(bytes.fromhex(case["header"]))
    kind, members = control.decode(made, case["says"].encode())
    assert kind == case["kind"]
    assert json.loads(case["says"]) == dict(control.read_hole(members).members())
    committed = body_commitment(*(bytes.fromhex(case[name]) for name in ("salt", "particulars")), case["says"].encode())
    assert (made.commitment, leaf_hashes([bytes.fromhex(case["header"])]).hex()) == (committed, case["leaf"])


@pytest.mark.parametrize("name", ["empty", "forked"])
def test_answer_vector_verifies_and_says_what_it_says(name):
    found = vector("answer")
    said = open_answer(found[name].encode(), Verifier(make.GATEWAY, bytes.fromhex(found["cosign_public"])))
    assert (said.refused, said.differs, len(said.held)) == {"empty": ("", False, 0), "forked": ("fork", True, 1)}[name]


@pytest.mark.parametrize("at", [0, 1])
def test_sealed_vector_opens_under_its_key(at):
    found = vector("sealed")
    key = X25519PrivateKey.from_private_bytes(bytes.fromhex(found["private"]))
    read = BytesIO(base64.b64decode(found["files"][at]["sealed"])).read
    where = place(Origin.parse(found["origin"]), found["first"], found["count"])
    data = b"".join(unseal(read, {found["sealed_to"]: key}, found["sealed_to"], where))
    assert (len(data), sha256(data).hexdigest()) == (found["files"][at]["bytes"], found["files"][at]["plain"])


def test_key_change_vector_reads_back_and_each_checkpoint_bears_just_the_keys_of_its_range():
    found = vector("key_change")
    made = header.decode(bytes.fromhex(found["header"]))
    kind, members = control.decode(made, found["says"].encode())
    change = read_key_change(members)
    assert (kind, change.before.hex(), change.after.hex()) == ("key-change", found["before"], found["after"])
    old, new = (Verifier(make.NODE, bytes.fromhex(found[name])) for name in ("before", "after"))
    assert [id_of(old).hex(), id_of(new).hex()] == found["key_ids"]
    assert verifier_of(read(change.certificate), make.NODE).public == new.public
    leaves = b"".join(bytes.fromhex(leaf) for leaf in found["leaves"])
    for each in found["checkpoints"]:
        note = parse_note(each["note"].encode())
        wanted = [old] if each["end"] <= 2 else [new] if each["first"] > 2 else [old, new]
        assert [line.key_id for line in note.signatures] == [id_of(key) for key in wanted]
        for key in wanted:
            assert verify_note(note, key).root == Frontier().append(leaves[: 32 * each["end"]]).root
    opened = check_opening(parse_note(found["opening"].encode()), LogKeys(in_force=old, certified=(new,)))
    assert (opened.key.public, opened.continues) == (new.public, True)
