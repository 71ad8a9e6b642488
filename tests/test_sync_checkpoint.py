"""Checkpoints: signed notes in one form only, and nothing that a key did not sign is believed."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.checkpoint import (
    NOTE_BYTES_MAX,
    SIGNATURES_MAX,
    Checkpoint,
    Note,
    NoteSignature,
    open_checkpoint,
    parse_checkpoint,
    parse_note,
    sign_checkpoint,
    verify_note,
)
from sync.errors import BadSignature, NotAName, NotANote, SyncError
from sync.keys import ED25519, FileSigner, Verifier, key_id
from sync.names import EPOCH_MAX, Origin, check_name
from tests.sim_realm import LOG_SIGNER, NODE, ORIGIN, ed25519

ROOT = bytes(range(32))
GOOD = Checkpoint(ORIGIN, 4711, ROOT)
NOTE = sign_checkpoint(GOOD, LOG_SIGNER)
VERIFIER = Verifier(NODE, LOG_SIGNER.public)


def signed(text: str, signer: FileSigner = LOG_SIGNER) -> bytes:
    """This text as a note, whatever it says."""
    line = NoteSignature(signer.name, key_id(signer.name, ED25519, signer.public), signer.sign(text.encode()))
    return Note(text, (line,)).encode()


# --- the form


def test_note_looks_as_c2sp_says():
    text, _, signature = NOTE.decode().partition("\n\n")
    assert text == f"clinic-17/his/1-0badcafe\n4711\n{base64.b64encode(ROOT).decode()}"
    dash, name, blob = signature.removesuffix("\n").split(" ")
    assert (dash, name) == ("—", "clinic-17")
    assert base64.b64decode(blob)[:4] == key_id("clinic-17", 1, LOG_SIGNER.public)
    assert len(base64.b64decode(blob)) == 4 + 64


def test_key_id_of_the_specifications_example_is_ours():
    # C2SP signed-note, section "Verifiers": the key PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW
    blob = base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    assert key_id("PeterNeumann", blob[0], blob[1:]) == bytes.fromhex("c74f20a3")


def test_signature_of_the_specifications_example_verifies():
    # C2SP signed-note, section "Format"
    note = parse_note(
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n".encode()
    )
    public = base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")[1:]
    found = note.signature("PeterNeumann", bytes.fromhex("c74f20a3"))
    Verifier("PeterNeumann", public).verify(note.text.encode(), found.blob)


names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
origins = st.builds(
    Origin, names, names, st.integers(1, EPOCH_MAX), st.from_regex(r"[0-9a-f]{8}", fullmatch=True)
)  # fmt: skip


@given(origins, st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_checkpoint_that_was_signed_reads_back_as_it_was(origin, size, root):
    found = Checkpoint(origin, size, root)
    assert open_checkpoint(sign_checkpoint(found, LOG_SIGNER), VERIFIER) == found


# --- names


@pytest.mark.parametrize("name", ["", "-a", "A", "a" * 64, "a/b", "a b", "a.b", "عيادة", "a\n", "a+b"])
def test_name_outside_the_alphabet_is_refused(name):
    with pytest.raises(NotAName):
        check_name(name)


@pytest.mark.parametrize(
    "line",
    [
        "n/s", "n/s/1-0badcafe/x", "n/s/0-0badcafe", "n/s/01-0badcafe", "n/s/2147483648-0badcafe", "n/s/1-0BADCAFE", "n/s/1-0badcaf",
        "n/s/1", "n/s/-0badcafe", "n//1-0badcafe", "n/s/١-0badcafe", "n/s/1-0badcafe\n", "n/s/1-0badcafe-1", " n/s/1-0badcafe",
    ],
)  # fmt: skip
def test_origin_in_any_other_form_is_refused(line):
    with pytest.raises(NotAName):
        Origin.parse(line)


# --- bytes that are no checkpoint


LINES = NOTE.decode().split("\n")
SIGNATURE_LINE = LINES[4]


def with_blob(blob: bytes) -> bytes:
    return "\n".join([*LINES[:4], f"— {NODE} {base64.b64encode(blob).decode()}", ""]).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\n\n", NOTE[:-1], NOTE + b"\n", NOTE.replace(b"\n", b"\r\n"), NOTE.replace("—".encode(), b"--"), NOTE.replace(b"\n\n", b"\n"),
        NOTE + b"\xff\n", NOTE[:-2] + b"\n", NOTE + b"x\n", NOTE + (SIGNATURE_LINE + "\n").encode() * SIGNATURES_MAX,
        with_blob(b"abcd"), with_blob(b""), NOTE.replace(b"clinic-17 ", b" "), NOTE.replace(b"clinic-17 ", b"clinic 17 "), b"x" * (NOTE_BYTES_MAX + 1),
    ],
)  # fmt: skip
def test_bytes_that_are_not_a_note_are_refused(data):
    with pytest.raises(NotANote):
        parse_note(data)


def test_base64_with_spare_bits_set_is_refused():
    # 68 bytes end in "=" with two spare bits before it: a reader that ignores them would accept four notes for one
    assert SIGNATURE_LINE.endswith("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = alphabet.index(SIGNATURE_LINE[-2])
    for spare in range(1, 4):
        line = SIGNATURE_LINE[:-2] + alphabet[last | spare] + "="
        assert base64.b64decode(line.rpartition(" ")[2]) == base64.b64decode(SIGNATURE_LINE.rpartition(" ")[2])
        with pytest.raises(NotANote):
            parse_note("\n".join([*LINES[:4], line, ""]).encode())


@pytest.mark.parametrize(
    "text",
    [
        GOOD.text() + "extension\n", GOOD.text()[:-1], GOOD.text().replace("4711", "04711"), GOOD.text().replace("4711", "-1"),
        GOOD.text().replace("4711", str(2**63)), GOOD.text().replace("4711", "4_711"), GOOD.text().replace("4711", "٤٧١١"),
        GOOD.text().replace("4711", "9" * 30), GOOD.text().replace("=", ""), "\n" + GOOD.text(),
        f"{ORIGIN}\n1\n{base64.b64encode(bytes(31)).decode()}\n", f"{ORIGIN}\n1\n{base64.b64encode(bytes(33)).decode()}\n",
    ],
)  # fmt: skip
def test_text_that_is_not_a_checkpoint_is_refused_though_it_is_signed(text):
    with pytest.raises(NotANote):
        parse_checkpoint(text)
    with pytest.raises(SyncError):
        open_checkpoint(signed(text), VERIFIER)


@given(st.binary(max_size=300))
def test_random_bytes_are_never_a_checkpoint(data):
    with pytest.raises(SyncError):
        open_checkpoint(data, VERIFIER)


# --- signatures


def test_each_single_bit_change_of_a_note_is_refused():
    for bit in range(8 * len(NOTE)):
        changed = bytearray(NOTE)
        changed[bit >> 3] ^= 1 << (bit & 7)
        with pytest.raises(SyncError):
            open_checkpoint(bytes(changed), VERIFIER)


def test_note_of_another_key_under_the_same_name_is_refused():
    imposter = FileSigner(NODE, ed25519("imposter"))
    with pytest.raises(BadSignature):
        open_checkpoint(sign_checkpoint(GOOD, imposter), VERIFIER)


def test_note_of_the_right_key_under_another_name_is_refused():
    with pytest.raises(BadSignature):
        open_checkpoint(sign_checkpoint(GOOD, FileSigner("clinic-18", ed25519("log key"))), VERIFIER)


def test_signature_of_another_text_is_refused():
    other = sign_checkpoint(Checkpoint(ORIGIN, 4712, ROOT), LOG_SIGNER)
    stolen = parse_note(other).signatures
    with pytest.raises(BadSignature):
        verify_note(Note(GOOD.text(), stolen), VERIFIER)


def test_signature_of_the_wrong_length_is_refused():
    line = NoteSignature(NODE, key_id(NODE, ED25519, LOG_SIGNER.public), bytes(63))
    with pytest.raises(NotANote):
        verify_note(Note(GOOD.text(), (line,)), VERIFIER)


def test_strangers_signatures_beside_ours_are_ignored():
    # C2SP signed-note: signatures of unknown keys are ignored
    stranger = NoteSignature("somebody", b"abcd", b"anything")
    note = parse_note(NOTE)
    crowded = Note(note.text, (stranger, *note.signatures, stranger)).encode()
    assert open_checkpoint(crowded, VERIFIER) == GOOD
