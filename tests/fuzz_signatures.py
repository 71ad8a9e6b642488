"""Mutated signed documents against what verifies signatures: no exception, a verdict of the known ones, and none good over content that was changed.

`python tests/fuzz_signatures.py --inputs 1000000` is part of `make sim`; tests/test_signature_worker.py runs a slice. An input is made from
(seed, number) and this run's keys: `--seed S --first N --inputs 1` makes the same mutation again.
"""

import argparse
import base64
import json
import random
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, x25519
from lxml import etree

from node.signatures.chain import Authorities
from node.signatures.check import RESULTS, Finding, is_good
from node.signatures.fhir_signatures import canonical, parsed
from node.signatures.worker import judged
from tests.signing_rig import (
    NOW,
    Signer,
    authority,
    jose,
    make,
    sealed,
    sign,
    sign_body,
    sign_bundle,
    sign_xades,
    signature,
)
from tests.soap_rig import CDA, MTOM, SOAP, mtom

FHIR, XML = "application/fhir+json", "application/hl7-cda+xml"
BLOCK = 2000  # inputs between two reports
TIMES = (None, NOW, NOW - timedelta(days=4000))
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1e300, 10**40, "", " ", "x", "#", "#in", "\ud800", "\x00", "٣", [], {}, [[]], [{}], [None], {"resourceType": "Bundle"},
    {"resourceType": []}, {"sigFormat": "application/jose"}, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "Provenance/1", "urn:uuid:x",
    "Patient/p1/_history/3", "Patient/p1/_history/", "a.b.c", "e30..", "e30.e30.e30", "none", "application/fhir+json;canonicalization=x",
)  # fmt: skip
DATES = ("0001-01-01T00:00:00+03:00", "9999-12-31T23:59:59-03:00", "2026-02-30T00:00:00Z", "24:00", "", "0000-00-00T00:00:00Z", "2026-11-23T00:00:00+99:99", "٢٠٢٦-11-23T00:00:00Z")  # fmt: skip

ROOT_CA, MIDDLE = authority()
DOCTOR = make("Dr. Test", ROOT_CA)
DEPARTMENT = make("Department Test", MIDDLE)
SIGNERS: tuple[tuple[Signer, ...], ...] = ((DOCTOR,), (DEPARTMENT, MIDDLE), (make("Dr. Rsa", ROOT_CA, rsa_key=True),))
# certificates of keys that are not the signer's, of kinds that libraries know and do not take
STRANGE = tuple(
    Signer(DOCTOR.certificate, DOCTOR.key, make("Dr. Strange", ROOT_CA, key=key).der)
    for key in (
        ec.generate_private_key(ec.BrainpoolP256R1()), ec.generate_private_key(ec.SECP192R1()), ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(), x25519.X25519PrivateKey.generate(), dsa.generate_private_key(1024),
    )
)  # fmt: skip
SITE = Authorities([ROOT_CA.certificate], {})
PATIENT = {"resourceType": "Patient", "id": "p1", "meta": {"versionId": "3"}, "name": [{"family": "التجريبية"}]}
BUNDLE = {
    "resourceType": "Bundle",
    "id": "b",
    "type": "document",
    "entry": [{"resource": {"resourceType": "Composition", "title": "تقرير"}}, {"fullUrl": "urn:uuid:p", "resource": PATIENT}],
}  # fmt: skip
CASES: tuple[Callable[[], bytes], ...] = (
    lambda: sign(CDA, DOCTOR),
    lambda: sign(CDA, DEPARTMENT, MIDDLE),
    lambda: sign_xades(CDA, DOCTOR),
    lambda: sign_body(DOCTOR),
    lambda: mtom(sign(CDA, DOCTOR)),
)
DS = "{http://www.w3.org/2000/09/xmldsig#}"


class Case(NamedTuple):
    """A document, and what it says once its signatures are taken out: that is what may be called good."""

    content_type: str
    raw: bytes


class Broken(Exception):
    """The worker's function failed: on what."""


# ---- what is mutated ------------------------------------------------------------------------------------------------------
def _bits(raw: bytes, dice: random.Random) -> bytes:
    found = bytearray(raw)
    for _ in range(dice.choice((1, 1, 2, 8))):
        at = dice.randrange(len(found))
        match dice.randrange(4):
            case 0:
                found[at] ^= 1 << dice.randrange(8)
            case 1:
                found[at] = dice.randrange(256)
            case 2:
                del found[at : at + dice.choice((1, 2, 40))]
            case _:
                found[at:at] = found[at : at + dice.choice((1, 2, 40))]
        if not found:
            break
    return bytes(found)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every member and element, as (holder, key)."""
    pairs = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [(value, key) for key, _ in pairs] + [place for _, each in pairs for place in _places(each)]


def _shape(value: Any, dice: random.Random) -> Any:
    """JSON with some of its members replaced, wrapped, doubled or taken away."""
    for _ in range(dice.choice((1, 1, 2, 4))):
        places = _places(value)
        if not places:
            return value
        holder, key = dice.choice(places)
        match dice.randrange(6):
            case 0 | 1 | 2:
                holder[key] = json.loads(json.dumps(dice.choice(ODD)))
            case 3:
                holder[key] = [holder[key]]
            case 4:
                holder[key] = json.loads(json.dumps(dice.choice(places)[0]))
            case _:
                del holder[key]
    return value


def _der(signer: Signer, dice: random.Random, issuer: Signer | None = None) -> Signer:
    """The same key under a mutated certificate, of which an authority may have signed the mutant."""
    der = bytearray(signer.der)
    places = [at for at in range(len(der) - 4) if der[at : at + 4] == b"\x06\x03\x55\x1d"]  # id-ce: names of extensions
    if places and dice.random() < 0.4:
        der[dice.choice(places) + 4] = der[dice.choice(places) + 4] if dice.random() < 0.7 else dice.randrange(10, 60)
    else:
        for _ in range(dice.choice((1, 1, 2, 3))):
            # half of the mutants fall on what is behind the names, where extensions stand
            at = dice.randrange(len(der) // 2 if dice.random() < 0.5 else 0, len(der))
            der[at] = dice.choice((der[at] ^ 1 << dice.randrange(8), dice.randrange(256)))
    if issuer is not None and isinstance(issuer.key, ec.EllipticCurvePrivateKey):
        return Signer(signer.certificate, signer.key, sealed(bytes(der), issuer))
    return Signer(signer.certificate, signer.key, bytes(der))


def _chain(dice: random.Random) -> list[Signer]:
    chain = list(dice.choice(SIGNERS))
    if dice.random() < 0.3:
        chain += dice.choice(SIGNERS)
    at = dice.randrange(len(chain))
    issuer = MIDDLE if chain[at].certificate.issuer == MIDDLE.certificate.subject else ROOT_CA
    chain[at] = _der(chain[at], dice, issuer if dice.random() < 0.7 else None)
    return chain


def _statement(dice: random.Random) -> Any:
    """A Bundle with a Provenance, both signed with certificates or claims that are odd."""
    chain = _chain(dice) if dice.random() < 0.7 else list(dice.choice(SIGNERS))
    if dice.random() < 0.1:
        chain[0] = dice.choice(STRANGE)
    said = {"sigT": dice.choice(DATES)} if dice.random() < 0.3 else {}
    if dice.random() < 0.3:
        said[dice.choice(("kid", "x5t#S256", "crit", "b64", "x5c", "alg2", "typ"))] = json.loads(
            json.dumps(dice.choice(ODD))
        )
    is_attached = dice.random() < 0.5
    made = signature(
        jose(canonical(PATIENT).encode(), *chain, is_attached=is_attached, **said), when=dice.choice((*DATES, ""))
    )
    statement = {"resourceType": "Provenance", "target": [{"reference": "urn:uuid:p"}], "signature": [made]}
    bundle = {**BUNDLE, "entry": [*BUNDLE["entry"], {"resource": statement}]}
    return json.loads(sign_bundle(json.loads(json.dumps(bundle)), dice.choice(SIGNERS)[0]))


def _json(dice: random.Random) -> Case:
    value = _statement(dice)
    if dice.random() < 0.6:
        value = _shape(value, dice)
    raw = json.dumps(value, ensure_ascii=dice.random() < 0.5).encode("utf-8", "surrogatepass")
    return Case(FHIR, _bits(raw, dice) if dice.random() < 0.3 else raw)


def _xml(dice: random.Random) -> Case:
    number = dice.randrange(len(XML_CASES))
    raw = XML_CASES[number]
    kind = (XML, XML, XML, SOAP, MTOM)[number]
    match dice.randrange(4):
        case 0:
            return Case(kind, _bits(raw, dice))
        case 1 if number < 4:
            return Case(kind, _elements(raw, dice))
        case 2:
            return Case(_bits(kind.encode(), dice).decode("latin-1"), raw)
        case _:
            signer, *others = _chain(dice)
            try:
                made = (sign_xades if dice.random() < 0.5 else sign)(CDA, DOCTOR if signer.raw else signer)
            except ValueError:
                return Case(kind, raw)
            old = base64.b64encode(DOCTOR.der)
            return (
                Case(XML, b"".join(made.split(b"\n")).replace(old, base64.b64encode(signer.der)))
                if others
                else Case(XML, _dated(made, dice))
            )


def _dated(raw: bytes, dice: random.Random) -> bytes:
    root = etree.fromstring(raw)
    for each in root.iter("{*}SigningTime", "{*}X509Certificate"):
        each.text = dice.choice(DATES) if "Time" in each.tag else base64.b64encode(_der(DOCTOR, dice).der).decode()
    return etree.tostring(root)


def _elements(raw: bytes, dice: random.Random) -> bytes:
    """Elements moved, doubled, emptied, renamed."""
    root = etree.fromstring(raw)
    for _ in range(dice.choice((1, 1, 2, 4))):
        every = [each for each in root.iter(etree.Element) if each is not root]
        if not every:
            break
        one, other = dice.choice(every), dice.choice(every)
        copy = etree.fromstring(etree.tostring(one, with_tail=False))
        match dice.randrange(7):
            case 0:
                other.append(copy)
            case 1:
                one.getparent().remove(one)
            case 2:
                one.text = dice.choice(("", "AAAA", "x" * 99, *DATES))
            case 3:
                one.set(
                    dice.choice(("Id", "ID", "id", "URI", "Algorithm", "Target")),
                    dice.choice(("", "#", "x", "#x", other.get("Id", "y"))),
                )
            case 4 if other not in one.iterdescendants() and other is not one:
                other.append(one)
            case 5:
                one.tag = other.tag
            case _:
                one.addprevious(etree.Comment("c") if dice.random() < 0.5 else etree.ProcessingInstruction("p", "x"))
    return etree.tostring(root)


XML_CASES = tuple(each() for each in CASES)


# ---- what must hold -------------------------------------------------------------------------------------------------------
def _content(raw: bytes) -> bytes | str:
    """What a document says, however it is written: JSON without what a Bundle's signer may leave out, or XML without signatures and comments."""
    if raw.lstrip()[:1] == b"{":
        value = parsed(raw)
        return canonical({name: each for name, each in value.items() if name not in {"signature", "id", "meta"}})
    root = etree.fromstring(raw)
    covered = root.find("{*}Body") if root.tag.endswith("}Envelope") else root
    for each in list(covered.iter(f"{DS}Signature")):
        parent, before = each.getparent(), each.getprevious()
        holder, name = (parent, "text") if before is None else (before, "tail")
        setattr(holder, name, (getattr(holder, name) or "") + (each.tail or ""))
        parent.remove(each)
    return etree.tostring(covered, method="c14n", exclusive=True, with_comments=False, with_tail=False)


CONTENTS = {_content(each) for each in XML_CASES[:4]}


def one(dice: random.Random) -> bool:
    """Judge one mutant; whether it was good. Raises what the worker's function raises, and AssertionError."""
    case = (_json if dice.random() < 0.6 else _xml)(dice)
    rows = judged(case.raw, case.content_type, SITE, dice.choice(TIMES))
    for row in rows:
        assert len(row) == len(Finding._fields), row
        assert all(isinstance(each, str) for each in row), row
        assert row[0] in RESULTS, row
        "".join(row).encode()  # a terminal and the particulars take UTF-8
        assert "".join(row).isprintable(), row
    good = is_good([Finding(*row) for row in rows])
    if good and case.content_type != MTOM and not case.raw.startswith(b"--"):
        content = _content(case.raw)
        if isinstance(content, bytes):
            assert content in CONTENTS, "good, and its content is another"
        else:
            assert '"التجريبية"' in content, "good, and its content is another"
    return good


def run(seed: int, first: int, inputs: int) -> int:
    """Judge so many; how many were good all the same. Raises Broken."""
    good = 0
    for number in range(first, first + inputs):
        try:
            good += one(random.Random(seed << 40 | number))
        except Exception as error:
            raise Broken(f"--seed {seed} --first {number} --inputs 1: {error!r}") from error
    return good


def main() -> int:
    """The campaign."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--inputs", type=int, default=1_000_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--first", type=int, default=0)
    options.add_argument("--survey", action="store_true", help="go on after a failure, and count failures by kind")
    said = options.parse_args()
    warnings.simplefilter("ignore")  # of certificates that are odd
    kinds: Counter[str] = Counter()
    good = 0
    for at in range(said.first, said.first + said.inputs, 1 if said.survey else BLOCK):
        try:
            good += run(said.seed, at, 1 if said.survey else min(BLOCK, said.first + said.inputs - at))
        except Broken as broken:
            if not said.survey:
                raise
            if kinds[repr(broken.__cause__)[:90]] == 0:
                print(broken, flush=True)
            kinds[repr(broken.__cause__)[:90]] += 1
    print(f"{said.inputs:,} inputs, {good:,} good all the same; {dict(kinds) or 'none failed'}")
    return 1 if kinds else 0


if __name__ == "__main__":
    sys.exit(main())
