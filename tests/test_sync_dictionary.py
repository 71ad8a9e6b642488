"""Dictionaries: fewer bytes and the same batch; both sides mean the same bytes or none; nothing a stranger names costs more than it weighs."""

import json
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from importlib import resources

import cbor2
import pytest
from backports import zstd

from gateway.dictionaries import keep_dictionaries
from node.tools.hospital import Hospital
from node.tools.hospital import Kind as HospitalKind
from node.uplink.dictionaries import shipped
from sync import batch
from sync.batch import RAW_BYTES_MAX, Batch
from sync.dictionary import DICTIONARY_BYTES_MAX, NAME_MARK, NAMED_BYTES, Shelf, make, read_index
from sync.errors import BadBatch, BadDictionary, UnknownDictionary
from sync.header import common_start
from sync.record import Kind
from tests.dictionaries import make as maker
from tests.sim_realm import NODE, STREAM, checkpoint_note, draft, records

FOLDER = resources.files("sync") / "dictionaries"
SHELF = shipped()
ORU = b"OBX|1|NM|718-7^Hemoglobin^LN||13.1|g/dL|12-16|N|||F\r"


def read(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def batch_of(*kinds: str, body: bytes = ORU, content_type: str = "application/hl7-v2+er7", times: int = 9) -> Batch:
    start = common_start(kind=Kind.MESSAGE, facility="rawdah", feed="his", content_type=content_type)
    made = records([draft(n, body=body * times, message_type=kind, common=start) for n, kind in enumerate(kinds)])
    return Batch(
        node=NODE, stream=STREAM, epoch=1, tag="0badcafe", first=0, lane="routine", checkpoint=checkpoint_note(made), records=made
    )  # fmt: skip


def family_of(data: bytes) -> str:
    """Of the dictionary that a batch names; empty without one."""
    if not data.startswith(NAME_MARK):
        return ""
    return SHELF.get(data[len(NAME_MARK) : NAMED_BYTES]).family


# --- the bytes


@pytest.mark.parametrize("kind", [HospitalKind.ADT_A01, HospitalKind.ORM_O01, HospitalKind.ORU_R01])
def test_single_message_with_a_dictionary_is_the_same_batch_in_two_thirds_of_the_bytes(kind):
    body = (
        Hospital(1).next_message(kind, now=datetime(2026, 1, 1, tzinfo=UTC)).raw
    )  # a hospital that it was not trained on
    sent = batch_of(kind.value, body=body, times=1)
    plain, short = batch.encode(sent), batch.encode(sent, SHELF)
    assert batch.decode(short, SHELF) == batch.decode(plain, SHELF) == sent
    assert len(short) < len(plain) * 2 / 3


def test_any_zstd_reads_the_frame_with_the_dictionary_whose_hash_stands_before_it():
    data = batch.encode(batch_of("ORU^R01"), SHELF)
    content = next(
        found for path in FOLDER.iterdir() if sha256(found := path.read_bytes()).digest() == data[8:40]
    )  # the name is the hash of a file that is shipped
    assert data[:8].hex() == "5e2a4d1820000000"  # RFC 8878 section 3.1.2: a skippable frame of 32 bytes
    assert cbor2.loads(zstd.decompress(data[40:], zstd.ZstdDict(content)))[2] == NODE


@pytest.mark.skipif(shutil.which("zstd") is None, reason="no zstd command here")
def test_the_zstd_command_reads_a_batch_as_it_travels(tmp_path):
    (tmp_path / "batch.zst").write_bytes(batch.encode(batch_of("ORU^R01"), SHELF))
    command = ["zstd", "-dc", "-D", str(FOLDER / "oru-1.zdict"), str(tmp_path / "batch.zst")]
    done = subprocess.run(
        command, capture_output=True, check=True
    )  # it skips the name, as it does all skippable frames
    assert cbor2.loads(done.stdout)[2] == NODE


def test_reader_without_the_dictionary_says_which_one_it_lacks():
    data = batch.encode(batch_of("ORU^R01"), SHELF)
    with pytest.raises(UnknownDictionary, match=data[8:40].hex()):
        batch.decode(data)


def test_frame_under_another_dictionarys_name_is_refused():
    data = batch.encode(batch_of("ORU^R01"), SHELF)
    other = sha256(read("adt-1.zdict")).digest()
    with pytest.raises(BadBatch):
        batch.decode(NAME_MARK + other + data[NAMED_BYTES:], SHELF)


@pytest.mark.parametrize("cut", [9, 39, 40, 41, 60])
def test_name_or_frame_that_is_cut_off_is_refused(cut):
    with pytest.raises(BadBatch):
        batch.decode(batch.encode(batch_of("ORU^R01"), SHELF)[:cut], SHELF)


def test_dictionary_does_not_lift_the_limit_on_what_a_batch_may_become():
    held = SHELF.get(bytes.fromhex(json.loads(read("index.json"))[0]["sha256"]))
    bomb = zstd.compress(bytes(RAW_BYTES_MAX + 1), zstd_dict=held.zstd)
    assert len(bomb) < 10_000
    with pytest.raises(BadBatch, match="longer"):
        batch.decode(NAME_MARK + held.sha256 + bomb, SHELF)


# --- the choice


@pytest.mark.parametrize(
    ("kinds", "family"),
    [(["ADT^A01"], "adt"), (["ORM^O01"], "order"), (["OML^O21"], "order"), (["ORU^R01"], "oru"), (["ADT^A01", "ORU^R01", "ORU^R01"], "oru"), (["ZZZ^Z01"], "")],
)  # fmt: skip
def test_batch_takes_the_dictionary_of_most_of_its_bytes(kinds, family):
    assert family_of(batch.encode(batch_of(*kinds), SHELF)) == family


def test_fhir_takes_its_own_dictionary_whatever_the_resource():
    data = batch.encode(batch_of("Observation", body=b'{"resourceType":"Observation"}', content_type="application/fhir+json"), SHELF)  # fmt: skip
    assert family_of(data) == "fhir"


def test_same_batch_takes_the_same_dictionary_again():
    sent = batch_of("ADT^A01", "ORU^R01")
    assert batch.encode(sent, SHELF) == batch.encode(sent, Shelf(reversed(read_index(read))))


def test_batch_that_is_its_own_dictionary_names_none():
    assert family_of(batch.encode(batch_of("ORU^R01", body=ORU * 3000), SHELF)) == ""


def test_newest_version_of_a_family_is_written_and_the_older_still_read():
    old = next(each for each in read_index(read) if each.family == "oru")
    new = make(read("adt-1.zdict"), family="oru", version=2, prefixes=old.prefixes, content_type=old.content_type)
    both = Shelf([new, old])
    data = batch.encode(batch_of("ORU^R01"), both)
    assert data[8:40] == new.sha256
    assert batch.decode(batch.encode(batch_of("ORU^R01"), Shelf([old])), both).node == NODE


# --- what is shipped


def test_training_on_invented_messages_gives_the_bytes_that_are_shipped():
    index = json.loads(read("index.json"))
    assert sha256(maker.train("order")).hexdigest() == next(row["sha256"] for row in index if row["family"] == "order")
    assert index == maker.rows({family: read(f"{family}-1.zdict") for family in maker.FAMILIES})


def test_dictionary_holds_no_word_that_the_corpus_of_other_people_has_and_the_generator_has_not():
    for name in ("adt", "order", "oru", "fhir"):
        content = read(f"{name}-1.zdict")
        assert b"WADI-NOOR" in content
        assert not [word for word in (b"SIMHOSP", b"RFAC", b"GHH", b"EVERYMAN", b"MEDPLUM") if word in content]


@pytest.mark.parametrize("change", [{"sha256": "00" * 32}, {"family": "../adt"}, {"version": 0}, {"prefixes": "A"}])
def test_index_that_does_not_say_what_is_there_is_refused(change):
    rows = json.loads(read("index.json"))
    rows[0] |= change
    with pytest.raises(BadDictionary):
        read_index(lambda name: json.dumps(rows).encode() if name == "index.json" else read(name))


@pytest.mark.parametrize("content", [b"", b"no dictionary", bytes(DICTIONARY_BYTES_MAX + 1)])
def test_bytes_that_are_no_dictionary_are_refused(content):
    with pytest.raises(BadDictionary):
        make(content)


# --- what a gateway keeps


def test_gateway_keeps_each_dictionary_that_it_ever_had(tmp_path):
    keep_dictionaries(tmp_path / "d")
    old = zstd.train_dict([b"older release %d" % n * 30 for n in range(200)], 1024).dict_content
    name = sha256(old).hexdigest()
    (tmp_path / "d" / f"{name}.zdict").write_bytes(old)
    shelf = keep_dictionaries(tmp_path / "d")
    assert len(shelf) == len(SHELF) + 1
    older = make(old, family="oru", version=1, prefixes=("ORU",), content_type="application/hl7-v2+er7")
    assert batch.decode(batch.encode(batch_of("ORU^R01"), Shelf([older])), shelf).node == NODE


def test_damaged_dictionary_is_replaced_where_it_is_shipped_and_unknown_where_not(tmp_path):
    keep_dictionaries(tmp_path / "d")
    path = min((tmp_path / "d").iterdir())
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    (tmp_path / "d" / f"{'0' * 64}.zdict").write_bytes(read("adt-1.zdict"))
    shelf = keep_dictionaries(tmp_path / "d")
    assert sha256(path.read_bytes()).hexdigest() == path.stem
    assert len(shelf) == len(SHELF)
    with pytest.raises(UnknownDictionary):
        shelf.get(bytes(32))


def test_no_dictionary_can_be_chosen_that_has_no_version():
    held = replace(next(iter(read_index(read))), version=0)
    assert Shelf([held]).choose([(held.content_type, "ADT^A01", 500)], 1000) is None
