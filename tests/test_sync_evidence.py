"""Evidence: it proves one record to a stranger, and nothing that was changed proves anything."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st

from sync.checkpoint import Checkpoint, Note, NoteSignature, parse_checkpoint, parse_note, sign_checkpoint
from sync.errors import BadEvidence
from sync.evidence import Evidence, parse, verify
from sync.header import decode
from sync.keys import FileSigner
from sync.names import Origin
from sync.receipt import cosign
from sync.record import BodyState
from tests.sim_realm import (
    AUTHORITY,
    COSIGN_CERTIFICATE,
    COSIGNER,
    GATEWAY,
    LOG_CERTIFICATE,
    LOG_SIGNER,
    NODE,
    NOW_S,
    ORIGIN,
    STREAM,
    TAG,
    VALIDITY,
    authority,
    certificate,
    checkpoint_note,
    der,
    draft,
    ed25519,
    evidence,
    later,
    pem,
    records,
    trimmed,
    validity_list,
    without_body,
)

ANCHOR = pem(AUTHORITY.certificate)


def refuses(found: Evidence | bytes, *, anchor: bytes | None = None, match: str = ".") -> None:
    with pytest.raises(BadEvidence, match=match):
        verify(found if isinstance(found, bytes) else found.encode(), anchor=anchor)


# --- what is proved


@pytest.mark.parametrize(
    ("size", "seq"), [(1, 0), (2, 0), (2, 1), (3, 1), (3, 2), (70, 41), (1025, 0), (1025, 1023), (1025, 1024)]
)
@pytest.mark.parametrize("form", [pem, der])
def test_good_file_proves_record_position_log_time_and_parties(size, seq, form):
    found = verify(evidence(size=size, seq=seq).encode(), anchor=form(AUTHORITY.certificate))
    record = records([draft(n) for n in range(size)])[seq]
    assert (found.origin, found.seq, found.size, found.time, found.gateway) == (ORIGIN, seq, size, NOW_S, GATEWAY)
    assert (found.header, found.body) == (decode(record.header), record.body)
    assert found.anchor_sha256 == AUTHORITY.certificate.fingerprint(hashes.SHA256()).hex()


def test_trimmed_body_leaves_position_and_commitment_proved():
    found = verify(trimmed(evidence()).encode(), anchor=ANCHOR)
    assert found.body is None
    assert found.header == verify(evidence().encode()).header


@pytest.mark.parametrize("body", [b"", b"\0", "رسالة تجريبية".encode(), bytes(300_000)])
def test_any_bytes_can_be_proved(body):
    assert verify(evidence(body=body).encode(), anchor=ANCHOR).body == body


def test_file_reads_back_as_it_was_written():
    found = evidence()
    assert parse(found.encode()) == found
    assert parse(trimmed(found).encode()) == trimmed(found)


def test_chain_over_an_intermediate_authority_is_proved():
    root = authority("national root", path_length=1)
    middle = authority("regional", issuer=root)
    found = evidence(
        log_certificate=der(certificate(middle, f"urn:wasl:node:{NODE}:log", key=ed25519("log key"))),
        cosign_certificate=der(certificate(middle, f"urn:wasl:gateway:{GATEWAY}:cosign", key=ed25519("cosign key"))),
        chain=(der(middle.certificate),), validity=validity_list(root), anchor=der(root.certificate),
    )  # fmt: skip
    assert verify(found.encode(), anchor=pem(root.certificate)).origin == ORIGIN
    refuses(replace(found, chain=()))
    refuses(replace(found, chain=(der(AUTHORITY.certificate),)))
    refuses(replace(found, chain=(*found.chain, *found.chain)))
    refuses(replace(found, validity=validity_list(root, {middle.certificate: later(0)})), match="revoked")
    verify(replace(found, validity=validity_list(root, {middle.certificate: later(1)})).encode())


# --- any change


def accepted_bits(data: bytes, bits: range) -> list[int]:
    """The bits whose change is not refused with BadEvidence and nothing else."""
    accepted = []
    for bit in bits:
        changed = bytearray(data)
        changed[bit >> 3] ^= 1 << (bit & 7)
        try:
            verify(bytes(changed))
        except BadEvidence:
            continue
        accepted.append(bit)
    return accepted


def in_two_processes(data: bytes, step: int = 1) -> list[int]:
    half = 4 * len(data)
    with ProcessPoolExecutor(2) as pool:
        parts = pool.map(accepted_bits, [data, data], [range(0, half, step), range(half, 2 * half, step)])
        return [bit for part in parts for bit in part]


def test_each_single_bit_change_of_a_file_is_refused():
    # without an anchor, so that each part stands on its own feet; the authority's own bytes included
    data = evidence(body=b"MSH|^~\\&|").encode()
    verify(data)
    assert in_two_processes(data) == []


def test_single_bit_changes_of_a_trimmed_file_and_of_a_long_proof_are_refused():
    assert (
        in_two_processes(trimmed(evidence(validity=validity_list(AUTHORITY, {LOG_CERTIFICATE: later(1)}))).encode(), 13)
        == []
    )
    assert in_two_processes(evidence(size=1025, seq=700).encode(), 17) == []


@given(st.data())
def test_cut_off_lengthened_and_mixed_files_are_refused(data):
    whole = evidence().encode()
    at = data.draw(st.integers(0, len(whole) - 1))
    refuses(whole[:at])
    refuses(whole[:at] + data.draw(st.binary(min_size=1, max_size=9)) + whole[at:])


@given(st.binary(max_size=100))
def test_random_bytes_are_no_evidence(data):
    refuses(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xf6",
        b"\x80",
        b"\xa0",
        b"\x81" * 390,
        b"\xd8\x1c\x81\xd8\x1d\x00",
        b"\xd9\xd9\xf7" + evidence().encode(),
        bytes(65 * 1024 * 1024),
    ],
    ids=lambda data: data[:4].hex() or "empty",
)
def test_what_is_no_evidence_is_refused(data):
    refuses(data)


FORM = cbor2.loads(evidence().encode())


@pytest.mark.parametrize(
    "change",
    [
        {1: "wasl-evidence/2"}, {2: "text"}, {3: bytes(15)}, {3: None}, {4: None}, {5: None}, {3: None, 4: None}, {5: "text"}, {6: -1}, {6: "1"}, {6: True},
        {6: 2**64}, {7: {}}, {7: [b"short"]}, {7: [bytes(32)] * 65}, {7: None}, {8: None}, {9: None}, {11: None}, {11: ["x"]}, {12: b""}, {13: b""}, {14: 0},
    ],
    ids=lambda change: str(change)[:30],
)  # fmt: skip
def test_part_of_the_wrong_shape_is_refused(change):
    refuses(cbor2.dumps(FORM | change, canonical=True))


@pytest.mark.parametrize("key", range(1, 14))
def test_missing_part_is_refused(key):
    refuses(cbor2.dumps({k: v for k, v in FORM.items() if k != key}, canonical=True))


def test_same_content_in_another_encoding_is_refused():
    refuses(cbor2.dumps(dict(reversed(FORM.items()))), match="canonical")
    whole = evidence().encode()
    refuses(b"\xb8\x0d" + whole[1:], match="canonical")


def test_certificates_in_pem_are_refused_for_text_around_them_could_change():
    found = evidence()
    for part in ("log_certificate", "cosign_certificate", "anchor"):
        text = pem(x509.load_der_x509_certificate(getattr(found, part)))
        refuses(replace(found, **{part: text}))


# --- attacks


def test_body_of_another_record_is_refused():
    one, other = evidence(seq=1), evidence(seq=2)
    refuses(replace(one, body=other.body), match="body")
    refuses(replace(one, body=other.body, particulars=other.particulars, salt=other.salt), match="body")
    refuses(replace(one, particulars=other.particulars), match="body")


def test_header_of_another_record_is_refused_with_and_without_its_body():
    one, other = evidence(seq=1), evidence(seq=2)
    swapped = replace(one, header=other.header, body=other.body, particulars=other.particulars, salt=other.salt)
    refuses(swapped, match="position")
    refuses(trimmed(swapped), match="position")


def test_other_position_or_proof_is_refused():
    one = evidence(size=5, seq=1)
    for seq in (0, 2, 3, 4, 5, 2**63 - 1):
        refuses(replace(one, seq=seq), match="position")
    refuses(replace(one, proof=one.proof[:-1]), match="position")
    refuses(replace(one, proof=(*one.proof, bytes(32))), match="position")
    refuses(replace(one, proof=one.proof[::-1]), match="position")


def test_bytes_that_move_from_particulars_into_the_body_are_refused():
    one = evidence()
    refuses(replace(one, particulars=one.particulars[:-1], body=one.particulars[-1:] + one.body), match="body")
    refuses(replace(one, particulars=one.particulars + one.body[:1], body=one.body[1:]), match="body")


def test_record_that_is_not_in_the_log_is_refused():
    foreign = records([draft(1, message_type="ADT^A08")])[0]
    refuses(
        replace(
            evidence(), header=foreign.header, salt=foreign.salt, particulars=foreign.particulars, body=foreign.body
        ),
        match="position",
    )


def resigned(**changes) -> Evidence:
    """Evidence whose checkpoint says something else, properly signed and cosigned."""
    one = evidence()
    said = {"origin": ORIGIN, "size": 3, "root": None} | changes
    root = said["root"] or parse_root(one.note)
    note = cosign(
        sign_checkpoint(Checkpoint(said["origin"], said["size"], root), LOG_SIGNER), time=NOW_S, signer=COSIGNER
    )
    return replace(one, note=note)


def parse_root(note: bytes) -> bytes:
    return parse_checkpoint(parse_note(note).text).root


def test_checkpoint_of_another_size_or_root_is_refused():
    verify(resigned().encode())
    for size in (1, 2, 5, 2**40):
        refuses(resigned(size=size), match="position")
    refuses(resigned(root=bytes(32)), match="position")


def test_checkpoint_in_the_name_of_another_node_is_refused():
    refuses(resigned(origin=Origin("clinic-18", STREAM, 1, TAG)), match="alone")


def test_file_of_another_authority_is_refused_when_the_reader_names_his():
    other = authority("other")
    forged = evidence(
        log_certificate=der(certificate(other, f"urn:wasl:node:{NODE}:log", key=ed25519("log key"))),
        cosign_certificate=der(certificate(other, f"urn:wasl:gateway:{GATEWAY}:cosign", key=ed25519("cosign key"))),
        validity=validity_list(other), anchor=der(other.certificate),
    )  # fmt: skip
    refuses(forged, anchor=ANCHOR, match="another authority")
    # it is whole in itself: without an anchor only the fingerprint tells
    assert verify(forged.encode()).anchor_sha256 != verify(evidence().encode()).anchor_sha256


def test_own_anchor_beside_foreign_certificates_is_refused():
    other = authority("other")
    refuses(evidence(anchor=der(other.certificate)), anchor=pem(other.certificate))
    refuses(evidence(anchor=der(other.certificate)))


@pytest.mark.parametrize("anchor", [b"", b"rubbish", pem(LOG_CERTIFICATE)])
def test_anchor_that_is_not_the_authority_is_refused(anchor):
    refuses(evidence(), anchor=anchor)


def test_anchor_that_is_no_authority_is_refused():
    refuses(evidence(anchor=der(LOG_CERTIFICATE)))


def test_swapped_certificates_are_refused():
    refuses(evidence(log_certificate=der(COSIGN_CERTIFICATE), cosign_certificate=der(LOG_CERTIFICATE)))
    refuses(evidence(log_certificate=der(COSIGN_CERTIFICATE)))
    refuses(evidence(cosign_certificate=der(LOG_CERTIFICATE)))


def test_certificates_of_other_parties_of_the_same_authority_are_refused():
    for name, key in ((NODE, "another key"), ("clinic-18", "log key")):
        refuses(evidence(log_certificate=der(certificate(AUTHORITY, f"urn:wasl:node:{name}:log", key=ed25519(key)))))
    for name, key in ((GATEWAY, "another key"), ("elsewhere", "cosign key")):
        found = certificate(AUTHORITY, f"urn:wasl:gateway:{name}:cosign", key=ed25519(key))
        refuses(evidence(cosign_certificate=der(found)))


def test_node_cannot_be_its_own_witness():
    refuses(
        evidence(note=cosign(checkpoint_note(records([draft(n) for n in range(3)])), time=NOW_S, signer=LOG_SIGNER))
    )


def test_checkpoint_without_receipt_and_receipt_without_checkpoint_are_refused():
    one = evidence()
    note = parse_note(one.note)
    refuses(replace(one, note=Note(note.text, note.signatures[:1]).encode()))
    refuses(replace(one, note=Note(note.text, note.signatures[1:]).encode()))
    refuses(replace(one, note=b""))


def test_additional_signature_is_refused_for_nobody_would_notice_its_change():
    note = parse_note(evidence().note)
    refuses(
        evidence(note=Note(note.text, (*note.signatures, NoteSignature("evil", b"abcd", b"x"))).encode()), match="alone"
    )


# --- time


@pytest.mark.parametrize(
    "time", [int(later(-400 * 86400).timestamp()), int(later(30 * 365 * 86400).timestamp()), 0, 2**40, 2**62, 2**63 - 1]
)
def test_receipt_from_outside_the_certificates_time_is_refused(time):
    refuses(evidence(time=time))


@pytest.mark.parametrize("who", [LOG_CERTIFICATE, COSIGN_CERTIFICATE])
def test_receipt_before_the_revocation_is_good_and_from_then_on_refused(who):
    for seconds, good in ((1, True), (86400, True), (0, False), (-1, False), (-86400, False)):
        found = evidence(validity=validity_list(AUTHORITY, {who: later(seconds)}))
        if good:
            verify(found.encode(), anchor=ANCHOR)
        else:
            refuses(found, anchor=ANCHOR, match="revoked")


def test_validity_list_of_another_authority_or_none_is_refused():
    refuses(evidence(validity=validity_list(authority("other"))))
    refuses(evidence(validity=VALIDITY[:-1]))


# --- without the body


def test_record_that_was_damaged_at_the_node_is_proved_without_body():
    # what lies at the gateway is header and leaf only; the file says no more than that
    record = without_body(records([draft(1)])[0], BodyState.DAMAGED)
    assert (record.salt, record.body) == (b"", b"")
    assert verify(trimmed(evidence()).encode()).body is None


def test_erased_parts_are_erased_together():
    one = evidence()
    for keep in ("salt", "particulars", "body"):
        refuses(replace(trimmed(one), **{keep: getattr(one, keep)}), match="together")
    refuses(replace(one, salt=None), match="together")


def test_signer_of_another_name_is_refused():
    signer = FileSigner("clinic-18", ed25519("log key"))
    refuses(
        evidence(
            note=cosign(
                sign_checkpoint(Checkpoint(ORIGIN, 3, parse_root(evidence().note)), signer), time=NOW_S, signer=COSIGNER
            )
        )
    )
