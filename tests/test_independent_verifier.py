"""Two verifiers that share no code come to the same verdict: on good files, on every changed bit, and on each attack."""

import ast
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import cbor2
import pytest

from sync.checkpoint import Note, parse_note
from sync.errors import BadEvidence
from sync.evidence import Evidence
from sync.evidence import verify as ours
from sync.receipt import cosign
from tests.independent_verifier import verify as theirs
from tests.sim_realm import (
    AUTHORITY,
    COSIGN_CERTIFICATE,
    COSIGNER,
    GATEWAY,
    LOG_CERTIFICATE,
    LOG_SIGNER,
    NODE,
    NOW_S,
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
)

SCRIPT = Path(__file__).parent / "independent_verifier.py"
ANCHOR = pem(AUTHORITY.certificate)
OTHER = authority("other")


def verdicts(data: bytes, anchor: bytes | None = None) -> tuple[bool, bool]:
    """Whether ours and theirs accept. Ours may raise nothing but BadEvidence."""
    found = []
    for verify, refusal in (
        (lambda: ours(data, anchor=anchor), BadEvidence),
        (lambda: theirs(data, anchor), Exception),
    ):
        try:
            verify()
        except refusal:
            found.append(False)
        else:
            found.append(True)
    return found[0], found[1]


def both_accept(found: Evidence, anchor: bytes | None = ANCHOR) -> None:
    ours(found.encode(), anchor=anchor)
    theirs(found.encode(), anchor)


def both_refuse(found: Evidence | bytes, anchor: bytes | None = ANCHOR) -> None:
    assert verdicts(found if isinstance(found, bytes) else found.encode(), anchor) == (False, False)


# --- the script itself


def test_script_imports_nothing_of_ours():
    allowed = {*sys.stdlib_module_names, "cryptography", "cbor2"}
    for node in ast.walk(ast.parse(SCRIPT.read_text())):
        names = (
            [each.name for each in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        assert {name.partition(".")[0] for name in names} <= allowed


def test_script_is_short_enough_to_be_read():
    assert len(SCRIPT.read_text().splitlines()) <= 200


def run(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    # isolated: neither this folder nor the project is on its path
    return subprocess.run(
        [sys.executable, "-I", SCRIPT, *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )


def test_script_run_from_anywhere_says_what_is_proved_or_why_not(tmp_path):
    (tmp_path / "good").write_bytes(evidence().encode())
    (tmp_path / "bad").write_bytes(evidence(body=b"x").encode()[:-1])
    (tmp_path / "ca.pem").write_bytes(ANCHOR)
    (tmp_path / "other.pem").write_bytes(pem(OTHER.certificate))
    good = run("good", "--anchor", "ca.pem", folder=tmp_path)
    assert (good.returncode, good.stderr) == (0, "")
    for said in (
        "PROVED\n",
        "clinic-17/his/1-0badcafe, 3 records",
        "2026-05-28T20:26:40Z by centre",
        "record     1: message, ADT^A01",
        "bytes, SHA-256",
    ):
        assert said in good.stdout
    assert "compare it yourself" in run("good", folder=tmp_path).stdout
    for arguments in (("bad",), ("good", "--anchor", "other.pem"), ("absent",), ("good", "--anchor", "absent")):
        refused = run(*arguments, folder=tmp_path)
        assert (refused.returncode, refused.stderr) == (1, "")
        assert refused.stdout.startswith("NOT PROVED: ")


# --- good files


@pytest.mark.parametrize("form", [lambda found: found, trimmed], ids=["present", "trimmed"])
@pytest.mark.parametrize(
    ("size", "seq"), [(1, 0), (2, 0), (2, 1), (3, 0), (3, 2), (1025, 0), (1025, 512), (1025, 1023), (1025, 1024)]
)
def test_both_accept_good_files(size, seq, form):
    found = form(evidence(size=size, seq=seq))
    both_accept(found)
    both_accept(found, None)
    both_accept(found, der(AUTHORITY.certificate))


def test_both_accept_every_position_of_small_logs():
    for size in range(1, 10):
        for seq in range(size):
            both_accept(evidence(size=size, seq=seq))


def test_both_accept_a_chain_over_an_intermediate_authority():
    both_accept(*regional())


def regional() -> tuple[Evidence, bytes]:
    root = authority("national root", path_length=1)
    middle = authority("regional", issuer=root)
    found = evidence(
        log_certificate=der(certificate(middle, f"urn:wasl:node:{NODE}:log", key=ed25519("log key"))),
        cosign_certificate=der(certificate(middle, f"urn:wasl:gateway:{GATEWAY}:cosign", key=ed25519("cosign key"))),
        chain=(der(middle.certificate),), validity=validity_list(root), anchor=der(root.certificate),
    )  # fmt: skip
    return found, pem(root.certificate)


# --- any change


def accepted_bits(data: bytes, bits: range) -> list[tuple[int, bool, bool]]:
    """The bits whose change either of the two accepts."""
    accepted = []
    for bit in bits:
        changed = bytearray(data)
        changed[bit >> 3] ^= 1 << (bit & 7)
        found = verdicts(bytes(changed))
        if any(found):
            accepted.append((bit, *found))
    return accepted


def in_two_processes(data: bytes, step: int) -> list[tuple[int, bool, bool]]:
    half = 4 * len(data)
    with ProcessPoolExecutor(2) as pool:
        parts = pool.map(accepted_bits, [data, data], [range(0, half, step), range(half, 2 * half, step)])
        return [bit for part in parts for bit in part]


def test_both_refuse_each_single_bit_change_of_a_file():
    data = evidence(size=2, seq=1, body="جسم".encode()).encode()
    assert verdicts(data) == (True, True)
    assert in_two_processes(data, 1) == []


def test_both_refuse_single_bit_changes_of_chain_and_long_proof():
    found, _ = regional()
    assert in_two_processes(found.encode(), 29) == []
    assert in_two_processes(evidence(size=1025, seq=3).encode(), 31) == []


# --- attacks


ATTACKS = {
    "another anchor": (evidence(), pem(OTHER.certificate)),
    "an anchor that is no certificate": (evidence(), b"rubbish"),
    "a forged authority": (
        evidence(
            log_certificate=der(certificate(OTHER, f"urn:wasl:node:{NODE}:log", key=ed25519("log key"))),
            cosign_certificate=der(certificate(OTHER, f"urn:wasl:gateway:{GATEWAY}:cosign", key=ed25519("cosign key"))),
            validity=validity_list(OTHER), anchor=der(OTHER.certificate),
        ),
        ANCHOR,
    ),
    "swapped certificates": (evidence(log_certificate=der(COSIGN_CERTIFICATE), cosign_certificate=der(LOG_CERTIFICATE)), ANCHOR),
    "one certificate twice": (evidence(cosign_certificate=der(LOG_CERTIFICATE)), ANCHOR),
    "another node's certificate": (
        evidence(log_certificate=der(certificate(AUTHORITY, "urn:wasl:node:clinic-18:log", key=ed25519("log key")))), ANCHOR,
    ),
    "a link certificate": (evidence(log_certificate=der(certificate(AUTHORITY, f"urn:wasl:node:{NODE}", key=ed25519("log key")))), ANCHOR),
    "a certificate that names two": (
        evidence(log_certificate=der(certificate(AUTHORITY, f"urn:wasl:node:{NODE}:log", "urn:wasl:node:x:log", key=ed25519("log key")))), ANCHOR,
    ),
    "a certificate in pem": (evidence(log_certificate=pem(LOG_CERTIFICATE)), ANCHOR),
    "a leaf as anchor": (evidence(anchor=der(LOG_CERTIFICATE)), None),
    "a needless chain": (evidence(chain=(der(AUTHORITY.certificate),)), ANCHOR),
    "a receipt at the revocation of the node": (evidence(validity=validity_list(AUTHORITY, {LOG_CERTIFICATE: later(0)})), ANCHOR),
    "a receipt after the revocation of the node": (evidence(validity=validity_list(AUTHORITY, {LOG_CERTIFICATE: later(-1)})), ANCHOR),
    "a receipt after the revocation of the gateway": (evidence(validity=validity_list(AUTHORITY, {COSIGN_CERTIFICATE: later(-1)})), ANCHOR),
    "a validity list of somebody else": (evidence(validity=validity_list(OTHER)), ANCHOR),
    "a receipt before the certificates": (evidence(time=1), ANCHOR),
    "a receipt after the certificates": (evidence(time=2**33), ANCHOR),
    "a receipt at the end of time": (evidence(time=2**63 - 1), ANCHOR),
    "no receipt": (evidence(note=checkpoint_note(records([draft(n) for n in range(3)]))), ANCHOR),
    "a receipt alone": (evidence(note=Note(parse_note(evidence().note).text, parse_note(evidence().note).signatures[1:]).encode()), ANCHOR),
    "three signatures": (
        evidence(note=Note(parse_note(evidence().note).text, (*parse_note(evidence().note).signatures, parse_note(evidence().note).signatures[0])).encode()), ANCHOR,
    ),
    "body of another record": (replace(evidence(seq=1), body=evidence(seq=2).body), ANCHOR),
    "body and salt of another record": (replace(evidence(seq=1), **{k: getattr(evidence(seq=2), k) for k in ("body", "salt", "particulars")}), ANCHOR),
    "header of another record": (replace(trimmed(evidence(seq=1)), header=evidence(seq=2).header), ANCHOR),
    "another position": (replace(evidence(seq=1), seq=0), ANCHOR),
    "a position beyond the log": (replace(evidence(seq=1), seq=3), ANCHOR),
    "a negative position": (replace(evidence(seq=1), seq=-1), ANCHOR),
    "a shorter proof": (replace(evidence(seq=1), proof=evidence(seq=1).proof[:-1]), ANCHOR),
    "a longer proof": (replace(evidence(seq=1), proof=(*evidence(seq=1).proof, bytes(32))), ANCHOR),
    "a body without its salt": (replace(evidence(), salt=None), ANCHOR),
    "a salt without its body": (replace(trimmed(evidence()), salt=bytes(16)), ANCHOR),
    "a byte moved from particulars to body": (
        replace(evidence(), particulars=evidence().particulars[:-1], body=evidence().particulars[-1:] + evidence().body), ANCHOR,
    ),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_both_refuse(attack):
    both_refuse(*ATTACKS[attack])


@pytest.mark.parametrize("who", [LOG_CERTIFICATE, COSIGN_CERTIFICATE])
def test_both_accept_a_receipt_before_the_revocation(who):
    both_accept(evidence(validity=validity_list(AUTHORITY, {who: later(1)})))


FORM = cbor2.loads(evidence().encode())


@pytest.mark.parametrize(
    "change",
    [
        {1: "wasl-evidence/2"}, {2: "text"}, {2: b"\xa0"}, {3: bytes(15)}, {4: None}, {4: "text"}, {5: "text"}, {6: True}, {6: "1"}, {7: {bytes(32): 1}},
        {7: [b"short"]}, {7: None}, {8: b""}, {9: b""}, {11: None}, {11: {}}, {12: b""}, {13: b""}, {14: 0},
    ],
    ids=lambda change: str(change)[:30],
)  # fmt: skip
def test_both_refuse_a_part_of_another_shape(change):
    both_refuse(cbor2.dumps(FORM | change, canonical=True))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xa0",
        b"\x80",
        evidence().encode() + b"\0",
        evidence().encode()[:-1],
        cbor2.dumps(dict(reversed(FORM.items()))),
    ],
)
def test_both_refuse_what_is_not_in_the_one_form(data):
    both_refuse(data)


def test_node_that_cosigns_itself_is_refused_by_both():
    note = checkpoint_note(records([draft(n) for n in range(3)]))
    both_refuse(evidence(note=cosign(note, time=NOW_S, signer=LOG_SIGNER)))
    both_accept(evidence(note=cosign(note, time=NOW_S, signer=COSIGNER)))
