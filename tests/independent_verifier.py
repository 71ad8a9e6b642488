"""Verify a Wasl evidence file without Wasl: `python independent_verifier.py FILE [--anchor ca.pem]`.

Written from docs/wire.md; needs Python 3.11, cryptography and cbor2. Exit 0 and what is proved, or 1 and the reason.
"""

import argparse
import base64
import re
import struct
import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

NAME = "[a-z0-9][a-z0-9-]{0,62}"
ORIGIN = re.compile(rf"({NAME})/({NAME})/([1-9][0-9]{{0,9}})-([0-9a-f]{{8}})")
SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
KINDS = ("message", "incomplete", "gap", "test", "control")
VERDICTS = ("accepted", "accepted with warning", "rejected")
HEADER_TYPES = {n: str if n in {3, 4, 5, 6} else bytes if n == 13 else int for n in range(1, 14)}
EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)
EXTENSIONS = {"2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.37"}  # key usage, names, basic constraints, extended usage


def need(condition: object, reason: str) -> None:
    if not condition:
        raise ValueError(reason)


def strict_map(data: bytes, what: str) -> dict:
    """Section 1.2: a CBOR map that is its own deterministic encoding."""
    found = cbor2.loads(data)
    need(isinstance(found, dict) and cbor2.dumps(found, canonical=True) == data, f"{what}: not deterministic CBOR")
    return found


def read_header(data: bytes) -> dict:
    """Section 2."""
    header = strict_map(data, "header")
    need(len(data) <= 1024 and set(header) - {14} == set(HEADER_TYPES), "header: fields")
    need(all(type(header[key]) is kind for key, kind in HEADER_TYPES.items()), "header: types")
    need(header[1] == 1 and 0 <= header[2] < len(KINDS) and 0 <= header[10] < len(VERDICTS), "header: values")
    need(all(0 <= header[key] < 2**63 for key in (8, 9, 11, 12)) and len(header[13]) == 32, "header: values")
    need(0 <= header[7] <= 253402300799999999, "header: time")
    need([type(each) for each in header.get(14, ["", 1, 1])] == [str, int, int], "header: after")
    return header


def root_of(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """RFC 9162 section 2.1.3.2."""
    need(0 <= index < size, "proof: position outside the log")
    fn, sn, node = index, size - 1, leaf
    for step in path:
        need(sn > 0, "proof: too long")
        if fn & 1 or fn == sn:
            node = sha256(b"\x01" + step + node).digest()
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = sha256(b"\x01" + node + step).digest()
        fn, sn = fn >> 1, sn >> 1
    need(sn == 0, "proof: too short")
    return node


def read_note(data: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    """Section 4.3: the text, and its two signature lines as name and bytes."""
    text, blank, rest = data.decode().rpartition("\n\n")
    lines = rest.split("\n")
    need(len(data) <= 4096 and blank and len(lines) == 3 and not lines[2], "note: not a signature and a receipt")
    signatures = []
    for line in lines[:2]:
        dash, name, blob = line.split(" ")
        signatures.append((name, base64.b64decode(blob, validate=True)))
        need(dash == "—" and base64.b64encode(signatures[-1][1]).decode() == blob, "note: signature line")
    return text + "\n", signatures


def check_signature(line: tuple[str, bytes], name: str, algorithm: int, key: Ed25519PublicKey, text: str) -> int:
    """Sections 4.3 and 4.4: raise unless this key signed; the time of a cosignature, else 0."""
    expected = sha256(name.encode() + b"\n" + bytes([algorithm]) + key.public_bytes_raw()).digest()[:4]
    need(line[0] == name and line[1][:4] == expected, f"note: not signed by {name}")
    signed, blob, time = text, line[1][4:], 0
    if algorithm == 4:
        (time,), blob = struct.unpack(">Q", blob[:8]), blob[8:]
        signed = f"cosignature/v1\ntime {time}\n{text}"
    key.verify(blob, signed.encode())
    return time


def der(data: bytes, load=x509.load_der_x509_certificate):
    """Section 4.5: DER, and no unused bits in the signature, which nothing would protect."""
    found = load(data)
    need(found.public_bytes(Encoding.DER) == data and data.endswith(b"\0" + found.signature), "certificate: not in DER")
    return found


def named(found: x509.Certificate, kind: str, role: str) -> tuple[str, Ed25519PublicKey]:
    """Section 4.5: whom the certificate names, and its key."""
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    uris = [uri for uri in uris if uri.startswith(f"urn:wasl:{kind}:")]
    match = re.fullmatch(f"urn:wasl:{kind}:({NAME}):{role}", uris[0]) if len(uris) == 1 else None
    key = found.public_key()
    need(match and isinstance(key, Ed25519PublicKey), f"certificate: does not name a {kind}'s {role} key")
    return match[1], key


def check_chain(leaf: x509.Certificate, issuers: list[x509.Certificate], when: datetime) -> None:
    """Section 4.5: each issued by the next, all valid at that time, issuers allowed to issue."""
    below = leaf
    for depth, issuer in enumerate(issuers):
        basic = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
        need(basic.ca and usage.key_cert_sign, "certificate: its issuer is no authority")
        need(depth <= (2 if basic.path_length is None else min(2, basic.path_length)), "certificate: chain too long")
        below.verify_directly_issued_by(issuer)
        below = issuer
    for each in (leaf, *issuers):
        need(each.not_valid_before_utc <= when <= each.not_valid_after_utc, "certificate: not valid at the receipt")
        critical = {found.oid.dotted_string for found in each.extensions if found.critical}
        need(critical <= EXTENSIONS, "certificate: unknown critical extension")


def check_validity(data: bytes, anchor: x509.Certificate, others: list[x509.Certificate], when: datetime) -> None:
    """Section 4.6: nobody of these was revoked before the receipt."""
    listed = der(data, x509.load_der_x509_crl)
    need(listed.issuer == anchor.subject, "validity list: of another authority")
    need(listed.is_signature_valid(anchor.public_key()), "validity list: signature")
    need(not any(found.critical for found in listed.extensions), "validity list: not a complete one")
    for each in others:
        entry = listed.get_revoked_certificate_by_serial_number(each.serial_number)
        need(entry is None or entry.revocation_date_utc > when, "certificate: revoked before the receipt")


def verify(data: bytes, trusted: bytes | None = None) -> list[str]:
    """What the file proves, line by line (section 8). Raises whatever is wrong."""
    found = strict_map(data, "file")
    need(list(found) == list(range(1, 14)) and found[1] == "wasl-evidence/1", "file: not evidence of version 1")
    record, salt, particulars, body, seq, path, note, log, cosign, chain, validity, root = list(found.values())[1:]
    need(isinstance(chain, list) and isinstance(path, list), "file: form")
    anchor, log, cosign, chain = der(root), der(log), der(cosign), [der(each) for each in chain]
    if trusted is not None:
        pem = trusted.lstrip().startswith(b"-----BEGIN")
        mine = x509.load_pem_x509_certificate(trusted).public_bytes(Encoding.DER) if pem else trusted
        need(mine == root, "anchor: the file belongs to another authority")
    anchor.verify_directly_issued_by(anchor)
    (node, log_key), (gateway, cosign_key) = named(log, "node", "log"), named(cosign, "gateway", "cosign")
    text, (first, second) = read_note(note)
    check_signature(first, node, 1, log_key, text)
    time = check_signature(second, gateway, 4, cosign_key, text)
    origin_line, size_line, root_line, end = text.split("\n")
    origin = ORIGIN.fullmatch(origin_line)
    need(origin and origin[1] == node and int(origin[3]) < 2**31, "checkpoint: not of this node")
    need(SIZE.fullmatch(size_line) and int(size_line) < 2**63 and not end, "checkpoint: form")
    when = EPOCH_START + timedelta(seconds=time)
    for leaf in (log, cosign):
        check_chain(leaf, [*chain, anchor], when)
    check_validity(validity, anchor, [log, cosign, *chain], when)
    header = read_header(record)
    if (salt, particulars, body) != (None, None, None):
        committed = sha256(salt + cbor2.dumps(particulars) + body).digest()  # section 4.1
        need(type(particulars) is bytes and len(salt) == 16 and len(body) == header[11], "body: form")
        need(committed == header[13], "body: not the one that was committed to")
    need(type(seq) is int and all(len(step) == 32 for step in path), "proof: form")
    computed = root_of(sha256(b"\0" + record).digest(), seq, int(size_line), path)
    need(base64.b64encode(computed).decode() == root_line, "proof: the record is not in the log at this position")
    received = EPOCH_START + timedelta(microseconds=header[7])
    shown = "only its commitment" if body is None else f"{len(body)} bytes, SHA-256 {sha256(body).hexdigest()}"
    return [
        f"authority  SHA-256 {sha256(root).hexdigest()}{'' if trusted else '  (no --anchor: compare it yourself)'}",
        f"log        {origin_line}, {size_line} records",
        f"receipt    {when:%Y-%m-%dT%H:%M:%SZ} by {gateway}",
        f"record     {seq}: {KINDS[header[2]]}, {header[6] or 'no type'}, {header[5]}, {VERDICTS[header[10]]}",
        f"received   {received:%Y-%m-%dT%H:%M:%S.%fZ} by the clock of {node}",
        f"body       {shown}",
    ]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--anchor", type=Path, help="certificate of the authority that you trust")
    options = parser.parse_args(arguments)
    try:
        lines = verify(options.file.read_bytes(), options.anchor.read_bytes() if options.anchor else None)
    except Exception as error:
        print(f"NOT PROVED: {str(error) or type(error).__name__}")
        return 1
    print("\n".join(["PROVED", *lines]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
