"""Make the vectors of docs/wire.md: `python -m tests.vectors.make` writes them beside this file. Keys, salts and times are fixed.

They were made once. A change of these files is a change of the wire format: see docs/wire.md, section 9.
"""

import base64
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import cbor2
from backports import zstd
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from native import body_commitment, leaf_hashes
from sync import batch, control, header
from sync.answer import Answer, sign_answer
from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.context import CONTEXT_BYTES_MAX, before
from sync.dictionary import compress, read_index
from sync.key_change import KeyChange
from sync.key_ring import KeyRing, OwnKeys, id_of
from sync.keys import COSIGNATURE_V1, ED25519, FileSigner, key_id
from sync.log import Frontier, inclusion_proof
from sync.names import Origin
from sync.opening import End, Opening, sign_opening
from sync.receipt import cosign, shorten
from sync.record import BodyState, Kind, Verdict
from sync.release import Release, sign_release
from sync.seal import CHUNK_BYTES, MAGIC, place, seal, seal_key_id
from sync.session import OwnStream, SessionAnswer, SessionRequest, TheirStream
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
    MemoryLog,
    MemoryRecords,
    certificate,
    checkpoint_note,
    der,
    draft,
    ed25519,
    evidence,
    frontier_of,
    pem,
    records,
    salt,
    secret,
    trimmed,
    without_body,
)

FOLDER = Path(__file__).parent
SIZES = (*range(9), 1025)
PROOFS = ((0, 1), (0, 2), (2, 3), (4, 7), (7, 8), (1024, 1025), (700, 1025))

BODY = draft(1).body
PARTICULARS = draft(1).particulars
RECORDS = records([draft(n, after=("main", 1, 7) if n == 1 else None) for n in range(3)])
MIXED = [
    *RECORDS,
    without_body(records([draft(3)], 3)[0], BodyState.TRIMMED),
    without_body(records([draft(4)], 4)[0], BodyState.ERASED),
    without_body(records([draft(5, verdict=int(Verdict.REJECTED))], 5)[0], BodyState.DAMAGED),
    without_body(records([draft(6)], 6)[0], BodyState.LEAF_ONLY),
]


def cbor() -> list[dict[str, str]]:
    """cbor2's canonical form, on which particulars, batches and evidence rest."""
    values: list[Any] = [
        *(0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1, -1, -24, -25, -256, -257, -(2**63)),
        *(None, True, False, b"", bytes(24), "", "وصل", "x" * 256, [], [1, [b"\0", "a"], None]),
        {}, {10: 1, 2: b"", 1: "a", 300: [], 24: None}, {1: {3: 4, 2: 1}},
    ]  # fmt: skip
    return [{"value": repr(value), "hex": cbor2.dumps(value, canonical=True).hex()} for value in values]


def headers() -> list[dict[str, Any]]:
    """Headers by their fields."""
    facts = {
        "kind": Kind.MESSAGE, "facility": "rawdah", "feed": "his", "content_type": "application/hl7-v2+er7", "message_type": "ORU^R01^ORU_R01",
        "received_us": NOW_S * 1_000_000 + 123_456, "clock_state": 1, "clock_error_us": 5000, "verdict": Verdict.ACCEPTED,
        "body_bytes": len(BODY), "protection": 0, "commitment": body_commitment(salt(1), PARTICULARS, BODY), "after": None,
    }  # fmt: skip
    cases: list[dict[str, Any]] = [
        facts,
        facts | {"kind": Kind.INCOMPLETE, "verdict": Verdict.REJECTED, "message_type": "", "body_bytes": 0},
        facts | {"kind": Kind.CONTROL, "feed": "مختبر", "after": ("main", 1, 4711), "clock_state": 0, "received_us": 0},
    ]
    return [
        {
            "fields": {**case, "kind": int(case["kind"]), "verdict": int(case["verdict"]), "commitment": case["commitment"].hex()},
            "hex": header.encode_pairs({1: 1} | {key: value for key, value in enumerate(case.values(), 2) if value is not None}).hex(),
        }
        for case in cases
    ]  # fmt: skip


def particulars() -> list[dict[str, Any]]:
    """Particulars by their keys."""
    cases: list[list[tuple[int, Any]]] = [
        [(1, "C00001"), (2, "192.0.2.7")],
        [(1, "رقم-٧"), (2, "2001:db8::7"), (8, ("HL7-03", "MSH^1^9"))],
        [(8, ("MLP-02", "")), (9, 20_000_000), (10, sha256(b"frame").digest())],
        [(8, ("NOD-11", "")), (11, 250)],
        [],
    ]
    return [{"pairs": repr(case), "hex": header.encode_particulars(case).hex()} for case in cases]


def commitments() -> list[dict[str, str]]:
    """Salt, particulars and body to commitment."""
    cases = [
        (salt(1), PARTICULARS, BODY),
        (salt(2), b"", b""),
        (bytes(16), b"\xa0", bytes(24)),
        (salt(3), bytes(300), b"x" * 70_000),
    ]
    return [
        {"salt": s.hex(), "particulars": p.hex(), "body": b.hex() if len(b) < 1000 else "78 x 70000", "commitment": body_commitment(s, p, b).hex()}
        for s, p, b in cases
    ]  # fmt: skip


def log() -> dict[str, Any]:
    """Leaves, roots and proofs. The n-th header is n as four bytes, big-endian."""
    leaves = [leaf_hashes([n.to_bytes(4)]) for n in range(1025)]
    read = MemoryLog(leaves)
    return {
        "header": "leaf n is that of the header that consists of n as four bytes, big-endian",
        "leaves": [leaf.hex() for leaf in leaves[:8]],
        "record": {"header": RECORDS[1].header.hex(), "leaf": RECORDS[1].leaf.hex()},
        "roots": {str(size): Frontier().append(b"".join(leaves[:size])).root.hex() for size in SIZES},
        "proofs": [
            {"leaf": n, "size": size, "path": [step.hex() for step in inclusion_proof(read, n, size)]}
            for n, size in PROOFS
        ],
    }


def notes() -> dict[str, Any]:
    """Keys, key ids, a checkpoint and a receipt."""

    def key(signer: FileSigner, what: str, algorithm: int) -> dict[str, str]:
        return {
            "name": signer.name, "seed": secret(what).hex(), "public": signer.public.hex(), "algorithm": f"{algorithm:#04x}",
            "key_id": key_id(signer.name, algorithm, signer.public).hex(),
        }  # fmt: skip

    note = sign_checkpoint(Checkpoint(ORIGIN, 4711, bytes(range(32))), LOG_SIGNER)
    return {
        "log_key": key(LOG_SIGNER, "log key", ED25519),
        "cosign_key": key(COSIGNER, "cosign key", COSIGNATURE_V1),
        "checkpoint": {"origin": str(ORIGIN), "size": 4711, "root": bytes(range(32)).hex(), "note": note.decode()},
        "receipt": {"time": NOW_S, "note": cosign(note, time=NOW_S, signer=COSIGNER).decode()},
    }


def batches() -> list[dict[str, Any]]:
    """Batches before compression: zstd's frames may differ from one release to the next."""
    made = []
    for first, found in ((0, RECORDS[:1]), (0, RECORDS), (0, MIXED), (2, MIXED[2:4])):
        sent = batch.Batch(
            node=NODE, stream=STREAM, epoch=1, tag=TAG, first=first, lane="routine", checkpoint=checkpoint_note(MIXED[: first + len(found)]), records=found
        )  # fmt: skip
        made.append(
            {
                "first": first,
                "records": [{"state": r.state.word, "header": r.header.hex(), "leaf": r.leaf.hex()} for r in found],
                "cbor": zstd.decompress(batch.encode(sent)).hex(),
            }
        )
    return made


def first_batches() -> list[dict[str, Any]]:
    """The same batches as version 1 had them, which no code of ours writes any more: each salt in its record."""
    return [made | {"cbor": _version_1(bytes.fromhex(made["cbor"])).hex()} for made in batches()]


def _version_1(raw: bytes) -> bytes:
    message = cbor2.loads(raw)
    salts = message.pop(batch.SALTS)
    given = (salts[at : at + 16] for at in range(0, len(salts), 16))
    items = [[*item[:4], next(given), item[4]] if item[0] == 0 else item for item in message[batch.RECORDS]]
    return cbor2.dumps({**message, batch.VERSION: 1, batch.RECORDS: items}, canonical=True)


def dictionaries() -> dict[str, Any]:
    """A batch as it travels under each dictionary of this release. Only reading must succeed for ever."""
    sent = batch.Batch(
        node=NODE, stream=STREAM, epoch=1, tag=TAG, first=0, lane="routine", checkpoint=checkpoint_note(RECORDS), records=RECORDS
    )  # fmt: skip
    raw = zstd.decompress(batch.encode(sent))
    folder = resources.files("sync") / "dictionaries"
    found = read_index(lambda name: (folder / name).read_bytes())
    return {
        "cbor": raw.hex(),
        "dictionaries": [
            {"file": f"{each.family}-{each.version}.zdict", "sha256": each.sha256.hex(), "batch": compress(raw, batch.ZSTD_LEVEL, each).hex()}
            for each in found
        ],
    }  # fmt: skip


def contexts() -> dict[str, Any]:
    """A batch as it travels after the two records before it. Content and name must be these; of the frame only reading must succeed for ever."""
    found = before(MemoryRecords(RECORDS), ORIGIN, 2, since=0, octets_max=CONTEXT_BYTES_MAX)
    assert found is not None
    sent = batch.Batch(
        node=NODE, stream=STREAM, epoch=1, tag=TAG, first=2, lane="routine", checkpoint=checkpoint_note(RECORDS), records=RECORDS[2:]
    )  # fmt: skip
    return {
        "origin": str(ORIGIN), "first": 2, "count": found.count,
        "records": [{"header": each.header.hex(), "particulars": each.particulars.hex(), "body": each.body.hex()} for each in RECORDS[:2]],
        "content": found.content.hex(), "name": found.name.hex(),
        "cbor": zstd.decompress(batch.encode(sent)).hex(), "batch": batch.encode(sent, context=found).hex(),
    }  # fmt: skip


def short_receipts() -> dict[str, str]:
    """What answers a PUT that asked for a short receipt."""
    checkpoint = checkpoint_note(RECORDS)
    whole = cosign(checkpoint, time=NOW_S, signer=COSIGNER)
    return {"checkpoint": checkpoint.decode(), "receipt": whole.decode(), "answer": shorten(whole, checkpoint).decode()}


def sessions() -> dict[str, Any]:
    """What a session says, as parsed JSON: blanks do not matter."""
    request = SessionRequest(
        boot="0123456789abcdef0123456789abcdef", boots=("00112233445566778899aabbccddeeff",), fence="f" * 32, log_certificate=pem(LOG_CERTIFICATE).decode(),
        streams=(OwnStream(stream=STREAM, epoch=1, tag=TAG, lane="routine"),),
    )  # fmt: skip
    answer = SessionAnswer(
        fence="e" * 32, ledger="a" * 32, cosign_certificate=pem(COSIGN_CERTIFICATE).decode(), held=False,
        streams=(TheirStream(stream=STREAM, epoch=1, tag=TAG, size=3, root=Frontier().append(b"".join(r.leaf for r in RECORDS)).root),),
    )  # fmt: skip
    keyed = replace(answer, streams=tuple(replace(each, key=id_of(LOG_SIGNER)) for each in answer.streams))
    return {
        "request": json.loads(request.encode()),
        "answer": json.loads(answer.encode()),
        "answer_with_key": json.loads(keyed.encode()),
    }


def heads() -> dict[str, Any]:
    """A session's request with the heads of logs that wait, and what a gateway reads of them."""
    root = Frontier().append(b"".join(record.leaf for record in RECORDS)).root
    note = sign_checkpoint(Checkpoint(ORIGIN, 3, root), LOG_SIGNER)
    request = SessionRequest(
        boot="0123456789abcdef0123456789abcdef", boots=(), fence="", log_certificate=pem(LOG_CERTIFICATE).decode(),
        streams=(OwnStream(stream=STREAM, epoch=1, tag=TAG, lane="bulk"),), heads=(note,),
    )  # fmt: skip
    return {"request": json.loads(request.encode()), "says": [{"origin": str(ORIGIN), "size": 3, "root": root.hex()}]}


def files() -> dict[str, Any]:
    """Evidence files, with and without the body, and their authority."""
    return {
        "anchor": pem(AUTHORITY.certificate).decode(),
        "anchor_sha256": sha256(der(AUTHORITY.certificate)).hexdigest(),
        "says": {"node": NODE, "gateway": GATEWAY, "stream": STREAM, "epoch": 1, "tag": TAG, "seq": 1, "size": 3, "time": NOW_S, "body": BODY.hex()},
        "present": evidence(size=3, seq=1).encode().hex(),
        "trimmed": trimmed(evidence(size=3, seq=1)).encode().hex(),
    }  # fmt: skip


def openings() -> dict[str, Any]:
    """Statements of a further epoch, with a link and without, and a release."""
    tree = Frontier().append(b"".join(record.leaf for record in RECORDS[:2]))
    new, common = Origin(NODE, STREAM, 2, "11111111"), End(ORIGIN, 2, tree.root)
    own, theirs = (
        End(ORIGIN, 3, Frontier().append(b"".join(record.leaf for record in RECORDS)).root),
        End(ORIGIN, 7, bytes(range(32))),
    )
    linked = Opening(opened=new, theirs=theirs, own=own, common=common, carried=1)
    release = Release(gateway=GATEWAY, node=NODE, at=NOW_S, logs=(new,))
    operator = FileSigner("amal", ed25519("operator"))
    return {
        "linked": sign_opening(linked, LOG_SIGNER).decode(),
        "alone": sign_opening(replace(linked, theirs=None, common=own, carried=0), LOG_SIGNER).decode(),
        "log_public": LOG_SIGNER.public.hex(),
        "release": sign_release(release, operator).decode(),
        "operator_public": operator.public.hex(),
    }  # fmt: skip


def answers() -> dict[str, Any]:
    """What a gateway says home by hand of a stream."""
    root = Frontier().append(b"".join(record.leaf for record in RECORDS)).root
    newest, forgotten = End(ORIGIN, 7, bytes(range(32))), End(Origin(NODE, STREAM, 2, "11111111"), 1, bytes(32))
    empty = Answer(node=NODE, stream=STREAM, ledger="a" * 32, time=NOW_S, refused="", newest=None, common=None)
    forked = replace(empty, refused="fork", newest=newest, common=End(ORIGIN, 3, root), held=(forgotten,), differs=True)
    return {
        "empty": sign_answer(empty, COSIGNER).decode(),
        "forked": sign_answer(forked, COSIGNER).decode(),
        "cosign_public": COSIGNER.public.hex(),
    }


def sealed_files() -> dict[str, Any]:
    """A sealed file of one chunk and one of two. HPKE is put together here from RFC 9180, with a share that is not random."""
    key = X25519PrivateKey.from_private_bytes(secret("seal key"))
    share = X25519PrivateKey.from_private_bytes(secret("seal share"))
    where, file_key = place(ORIGIN, 0, 3), secret("file key")
    made = []
    for data in (b"wasl " * 5, bytes(CHUNK_BYTES + 3)):
        parts = list(seal(data, key.public_key(), where, file_key))
        head = MAGIC + hpke_seal(share, key.public_key(), MAGIC + where, file_key)
        sealed = b"".join([head, *parts[1:]])
        made.append(
            {"plain": sha256(data).hexdigest(), "bytes": len(data), "sealed": base64.b64encode(sealed).decode()}
        )
    return {
        "private": key.private_bytes_raw().hex(), "sealed_to": seal_key_id(key.public_key()), "origin": str(ORIGIN), "first": 0, "count": 3, "files": made,
    }  # fmt: skip


def hpke_seal(share: X25519PrivateKey, to: X25519PublicKey, info: bytes, data: bytes) -> bytes:
    """RFC 9180, sections 4.1, 5.1 and 6.1: base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305; enc and ct."""

    def extract(suite: bytes, salt: bytes, label: bytes, key: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + key, "sha256")

    def expand(suite: bytes, key: bytes, label: bytes, more: bytes, size: int) -> bytes:
        return hmac.digest(key, size.to_bytes(2) + b"HPKE-v1" + suite + label + more + b"\x01", "sha256")[:size]

    kem, hpke, enc = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x03", share.public_key().public_bytes_raw()
    shared = expand(
        kem, extract(kem, b"", b"eae_prk", share.exchange(to)), b"shared_secret", enc + to.public_bytes_raw(), 32
    )
    schedule = b"\x00" + extract(hpke, b"", b"psk_id_hash", b"") + extract(hpke, b"", b"info_hash", info)
    inner = extract(hpke, shared, b"secret", b"")
    cipher = ChaCha20Poly1305(expand(hpke, inner, b"key", schedule, 32))
    return enc + cipher.encrypt(expand(hpke, inner, b"base_nonce", schedule, 12), data, b"")


def key_changes() -> dict[str, Any]:
    """A log of five records of which the third changes the key: its batches' checkpoints wherever they are cut, and a statement under both."""
    fresh = FileSigner(NODE, ed25519("next log key"))
    given = der(certificate(AUTHORITY, f"urn:wasl:node:{NODE}:log", key=ed25519("next log key"), what="next log"))
    change = KeyChange(stream=STREAM, epoch=1, before=LOG_SIGNER.public, after=fresh.public, certificate=given)
    said = change.draft(
        facility="rawdah", at=control.Moment(received_us=NOW_S * 1_000_000, clock_state=1, clock_error_us=5000)
    )
    made = records([draft(0), draft(1), said, draft(3), draft(4)])
    ring, keys = KeyRing(fresh, (LOG_SIGNER,)), OwnKeys(id_of(fresh), ((2, id_of(LOG_SIGNER), id_of(fresh)),))
    end = End(ORIGIN, 2, frontier_of(made[:2]).root)
    opening = Opening(opened=replace(ORIGIN, epoch=2, tag="11111111"), theirs=end, own=end, common=end, carried=0)
    return {
        "before": LOG_SIGNER.public.hex(), "after": fresh.public.hex(), "key_ids": [id_of(each).hex() for each in (LOG_SIGNER, fresh)],
        "says": said.body.decode(), "header": made[2].header.hex(), "leaves": [each.leaf.hex() for each in made],
        "checkpoints": [
            {
                "first": first, "end": upto,
                "note": ring.sign_batch(Checkpoint(ORIGIN, upto, frontier_of(made[:upto]).root), first, keys).decode(),
            }
            for first, upto in ((0, 2), (0, 3), (2, 3), (1, 5), (3, 5))
        ],
        "opening": sign_opening(opening, LOG_SIGNER, fresh).decode(),
    }  # fmt: skip


def controls() -> list[dict[str, str]]:
    """Control records: kind and body to leaf."""
    at = control.Moment(received_us=NOW_S * 1_000_000, clock_state=1, clock_error_us=5000)
    holes = [
        control.Hole(stream=STREAM, epoch=1, first=17, last=19, lost="body", why="changed"),
        control.Hole(stream=STREAM, epoch=2, first=0, last=2**62, lost="all", why="unreadable"),
    ]
    made = records([hole.draft(facility="rawdah", at=at) for hole in holes])
    return [
        {"kind": control.HOLE, "says": record.body.decode(), "header": record.header.hex(), "particulars": record.particulars.hex(),
         "salt": record.salt.hex(), "leaf": record.leaf.hex()}
        for record in made
    ]  # fmt: skip


VECTORS: dict[str, Callable[[], Any]] = {
    "cbor": cbor,
    "header": headers,
    "particulars": particulars,
    "commitment": commitments,
    "log": log,
    "note": notes,
    "batch": first_batches,
    "batch2": batches,
    "dictionary": dictionaries,
    "context": contexts,
    "short": short_receipts,
    "session": sessions,
    "heads": heads,
    "opening": openings,
    "evidence": files,
    "control": controls,
    "answer": answers,
    "sealed": sealed_files,
    "key_change": key_changes,
}


def text(name: str) -> str:
    """The vector file of that name, as it is on disk."""
    return json.dumps(VECTORS[name](), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for each in VECTORS:
        (FOLDER / f"{each}.json").write_text(text(each), encoding="utf-8")
