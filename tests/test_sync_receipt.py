"""Receipts: a time and a checkpoint that one key vouched for together."""

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.checkpoint import Checkpoint, Note, NoteSignature, open_checkpoint, parse_note, sign_checkpoint
from sync.errors import BadSignature, NotANote, SyncError
from sync.keys import COSIGNATURE_V1, ED25519, FileSigner, Verifier, key_id
from sync.receipt import TIME_MAX, Receipt, cosign, open_receipt, verify_receipt
from tests.sim_realm import COSIGNER, GATEWAY, LOG_SIGNER, NODE, NOW_S, ORIGIN, ed25519

CHECKPOINT = Checkpoint(ORIGIN, 12, bytes(range(32)))
NOTE = sign_checkpoint(CHECKPOINT, LOG_SIGNER)
RECEIPT = cosign(NOTE, time=NOW_S, signer=COSIGNER)
VERIFIER = Verifier(GATEWAY, COSIGNER.public)


@given(st.integers(0, TIME_MAX))
def test_receipt_says_what_was_cosigned_and_when(time):
    assert open_receipt(cosign(NOTE, time=time, signer=COSIGNER), VERIFIER) == Receipt(CHECKPOINT, time)


def test_receipt_is_the_checkpoint_with_one_line_more():
    assert RECEIPT.startswith(NOTE)
    assert RECEIPT[len(NOTE) :].startswith("— centre ".encode())
    assert open_checkpoint(RECEIPT, Verifier(NODE, LOG_SIGNER.public)) == CHECKPOINT


def test_cosignature_has_the_bytes_of_the_specification():
    # C2SP tlog-cosignature: key id of type 0x04, big-endian time, Ed25519 over "cosignature/v1\ntime …\n" and the text
    blob = base64.b64decode(RECEIPT.decode().rstrip("\n").rpartition(" ")[2])
    assert blob[:4] == key_id(GATEWAY, 0x04, COSIGNER.public)
    assert struct.unpack(">Q", blob[4:12]) == (NOW_S,)
    message = f"cosignature/v1\ntime {NOW_S}\n{CHECKPOINT.text()}".encode()
    ed25519("cosign key").public_key().verify(blob[12:], message)


def test_each_single_bit_change_of_a_receipt_is_refused_by_one_of_the_two_keys():
    for bit in range(8 * len(RECEIPT)):
        changed = bytearray(RECEIPT)
        changed[bit >> 3] ^= 1 << (bit & 7)
        with pytest.raises(SyncError):
            open_receipt(bytes(changed), VERIFIER)
            open_checkpoint(bytes(changed), Verifier(NODE, LOG_SIGNER.public))


def test_receipt_of_another_gateway_is_refused():
    other = FileSigner(GATEWAY, ed25519("another cosign key"))
    with pytest.raises(BadSignature):
        open_receipt(cosign(NOTE, time=NOW_S, signer=other), VERIFIER)


def test_checkpoint_without_cosignature_is_no_receipt():
    with pytest.raises(BadSignature):
        open_receipt(NOTE, VERIFIER)


def test_plain_signature_of_the_cosigning_key_is_no_receipt():
    # the same key under type 0x01: it vouches for no time
    plain = NoteSignature(GATEWAY, key_id(GATEWAY, ED25519, COSIGNER.public), COSIGNER.sign(CHECKPOINT.text().encode()))
    with pytest.raises(BadSignature):
        verify_receipt(Note(CHECKPOINT.text(), (plain,)), VERIFIER)


def test_cosignature_moved_to_another_checkpoint_is_refused():
    other = sign_checkpoint(Checkpoint(ORIGIN, 13, bytes(range(32))), LOG_SIGNER)
    with pytest.raises(BadSignature):
        verify_receipt(Note(parse_note(other).text, parse_note(RECEIPT).signatures), VERIFIER)


def test_another_time_before_the_same_signature_is_refused():
    line = parse_note(RECEIPT).signatures[1]
    moved = NoteSignature(line.name, line.key_id, struct.pack(">Q", NOW_S - 1) + line.blob[8:])
    with pytest.raises(BadSignature):
        verify_receipt(Note(CHECKPOINT.text(), (moved,)), VERIFIER)


@pytest.mark.parametrize("blob", [bytes(71), bytes(73), struct.pack(">Q", TIME_MAX + 1) + bytes(64)])
def test_cosignature_of_another_shape_is_refused(blob):
    line = NoteSignature(GATEWAY, key_id(GATEWAY, COSIGNATURE_V1, COSIGNER.public), blob)
    with pytest.raises(NotANote):
        verify_receipt(Note(CHECKPOINT.text(), (line,)), VERIFIER)
