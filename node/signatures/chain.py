"""From a signer's certificate to an authority that the site knows (RFC 5280, 6.1, as cryptography.x509.verification does it), and whether it is revoked.

The signer's purposes are not looked at: the site names who may sign. An authority's are: it has to be one, of keys and algorithms that hold.
"""

import base64
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store, VerificationError

from node.errors import AuthoritiesBad

CHAIN_MAX = 5  # certificates from the signer to the authority, both included
RSA_BITS_MIN = 2048  # NIST SP 800-131A: a shorter one is no proof
CURVE_BITS_MIN = 256  # the shortest of SP 800-186's curves that is as hard to break as such a key of RSA
BLIND = "the site's authorities cannot be read"
LATE = "a certificate was not valid when it came"
OWN_ACCOUNT = "by its own account signed"
# what the library raises of a certificate that is odd, when it is read and when it is asked; some of them are no ValueError
ODD = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


def _signs_certificates(_policy: Policy, _found: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    """RFC 5280, 6.1.4 (n): an authority whose key is for something else is none. Raises ValueError."""
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("keyCertSign")


# 6.1.4 (k) to (n); a critical extension that is not named here, or not read by the library, ends the path (6.1.4 (o), 6.1.5 (f)). Policies are
# read: any of them will do (6.1.1 (c)), as long as no authority demands a certain one, which it can only by a critical extension
_OF_SIGNERS = ExtensionPolicy.permit_all().may_be_present(x509.CertificatePolicies, Criticality.AGNOSTIC, None)
_OF_AUTHORITIES = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _signs_certificates)
    .may_be_present(x509.CertificatePolicies, Criticality.AGNOSTIC, None)
)
# what the library says, which may hold names, in words of ours; what is not here is told as `RULES`
REASONS = (
    ("no interior errors", ""),  # nobody's: a stranger
    ("does not match", ""),  # nor of one who has a known authority's name
    ("max depth", f"more than {CHAIN_MAX - 2} authorities stand between the signer and a known one"),
    ("path length", "an authority stands further from the signer than one above it allows"),
    ("critical", "a certificate has a critical extension that is not read here"),
    ("name constraint", "an authority signed for a name that is not its own"),
    ("Forbidden", "a certificate is of a key or algorithm that is not taken"),
    ("too weak", "a certificate is of a key or algorithm that is not taken"),
    ("keyCertSign", "a certificate on the way is not an authority's"),
    ("asic", "a certificate on the way is not an authority's"),  # [b]asicConstraints: missing, or false
)
RULES = "its certificates do not keep the rules of RFC 5280"


class Revocations(NamedTuple):
    """One list: when the next one should have come, and since when each serial number is revoked."""

    next_update: datetime | None
    serials: dict[int, datetime]


class Authorities(NamedTuple):
    """What the site's folder holds: certificates, and lists of revoked ones by their issuer's name."""

    certificates: list[x509.Certificate]
    revocations: dict[x509.Name, list[Revocations]]


class Judged(NamedTuple):
    """The result: "valid", "unknown signer", "invalid", or "unknown" where there is nothing to judge by; why; and what else a reader should know."""

    result: str
    why: str = ""
    notes: tuple[str, ...] = ()


class Chain:
    """The site's authorities, None where they cannot be read, and the time at which certificates have to be valid; None where no clock says it."""

    def __init__(self, authorities: Authorities | None, time: datetime | None) -> None:
        self.is_blind = authorities is None
        self._authorities, self._revocations = authorities or Authorities([], {})
        self._time = time

    def judge(
        self, signer: x509.Certificate, others: list[x509.Certificate], claimed: datetime | None = None
    ) -> Judged:
        """What a signature that fits is worth. `claimed`: when it was made, by its own account, which nobody has to believe."""
        notes: tuple[str, ...] = () if claimed is None else (_claim(signer, claimed),)
        if self.is_blind:
            return Judged("unknown", BLIND, notes)
        path, why = self._path(signer, others, self._time)
        if not path and self._time is not None:
            was_once, why = self._path(signer, others, None)
            why = LATE if was_once else why
        if not path:
            return Judged("unknown signer", why, notes)
        for each in path:
            since = self._revoked(each)
            if since is not None and (self._time is None or since <= self._time):
                return Judged("invalid", "revoked", notes)
            if since is not None:
                notes += (f"revoked since {_iso(since)}, after it came",)
        if self._time is not None and any(self._is_stale(each, self._time) for each in path):
            notes += ("the list of revoked certificates was out of date when it came",)
        return Judged("valid", "", notes)

    def named(self, name: str) -> x509.Certificate | None:
        """The configured certificate that has this SHA-256 thumbprint: base64url (RFC 7515, 4.1.8), or hexadecimal digits."""
        return next((each for each in self._authorities if has_thumbprint(each, name)), None)

    def _path(
        self, signer: x509.Certificate, others: list[x509.Certificate], time: datetime | None
    ) -> tuple[list[x509.Certificate], str]:
        """The certificates from the signer to one of the authorities, directly or through some that came along; else none, and why."""
        why = ""
        try:
            if signer in self._authorities:
                return [signer] if _is_valid(signer, time) else [], why
            store = Store(self._authorities)
            for each in self._times(signer, others) if time is None else [time]:
                policy = PolicyBuilder().store(store).time(each).max_chain_depth(CHAIN_MAX - 2)
                policy = policy.extension_policies(ca_policy=_OF_AUTHORITIES, ee_policy=_OF_SIGNERS)
                try:
                    return policy.build_client_verifier().verify(signer, others).chain, ""
                except VerificationError as error:
                    why = why or _why(str(error))
        except ODD:
            return [], "a certificate that cannot be read"
        return [], why

    def _times(self, signer: x509.Certificate, others: list[x509.Certificate]) -> list[datetime]:
        """When a chain from this signer may have been valid: if ever, then at a time when one of its certificates began to be."""
        kin = [signer]
        for _ in range(CHAIN_MAX - 1):
            issuers = {each.issuer for each in kin}
            kin += [each for each in (*others, *self._authorities) if each.subject in issuers and each not in kin]
        found = {each.not_valid_before_utc for each in kin}
        return sorted(each for each in found if _is_valid(signer, each))

    def _revoked(self, found: x509.Certificate) -> datetime | None:
        dates = [each.serials.get(found.serial_number) for each in self._revocations.get(found.issuer, [])]
        return min((date for date in dates if date is not None), default=None)

    def _is_stale(self, found: x509.Certificate, time: datetime) -> bool:
        lists = self._revocations.get(found.issuer, [])
        return bool(lists) and all(each.next_update is not None and each.next_update < time for each in lists)


# ---- the site's folder --------------------------------------------------------------------------------------------------------------
def read_authorities(folder: Path) -> Authorities:
    """All certificates of a folder's *.pem, and all lists of its *.crl, each signed by one of them. Raises AuthoritiesBad."""
    found: list[x509.Certificate] = []
    for path in sorted(folder.glob("*.pem")):
        try:
            found += x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, *ODD) as error:
            raise AuthoritiesBad(f"{path}: {type(error).__name__}") from error
    if not found:
        raise AuthoritiesBad(f"{folder}: no certificate")
    lists: dict[x509.Name, list[Revocations]] = {}
    for path in sorted(folder.glob("*.crl")):
        issuer, revocations = _read_list(path, found)
        lists.setdefault(issuer, []).append(revocations)
    return Authorities(found, lists)


def state_of(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes when a file of the folder does. Raises OSError."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in {".pem", ".crl"})
    return tuple((path.name, (told := path.stat()).st_mtime_ns, told.st_size) for path in paths)


def _read_list(path: Path, authorities: list[x509.Certificate]) -> tuple[x509.Name, Revocations]:
    try:
        data = path.read_bytes()
        found = (x509.load_pem_x509_crl if data.startswith(b"-----") else x509.load_der_x509_crl)(data)
        is_signed = any(found.issuer == each.subject and _signed(found, each) for each in authorities)
        if not is_signed:
            raise AuthoritiesBad(f"{path}: not signed by a certificate of this folder")
        # a part of a list, or one of others' certificates: taken for the whole it would let revoked ones pass (RFC 5280, 5.2)
        if any(each.critical for each in found.extensions):
            raise AuthoritiesBad(f"{path}: a list of a kind that is not read here")
        serials: dict[int, datetime] = {}
        for each in found:
            # who was revoked for a stolen key is so from the day on which it may have been stolen (RFC 5280, 5.3.2)
            dates = [each.revocation_date_utc, serials.get(each.serial_number)]
            for extension in each.extensions:
                if extension.critical:  # 5.3: a list of which a row is not understood says nothing
                    raise AuthoritiesBad(f"{path}: a list of a kind that is not read here")
                if isinstance(extension.value, x509.InvalidityDate):
                    dates.append(extension.value.invalidity_date_utc)
            serials[each.serial_number] = min(date for date in dates if date is not None)
        return found.issuer, Revocations(found.next_update_utc, serials)
    except (OSError, *ODD) as error:
        raise AuthoritiesBad(f"{path}: {type(error).__name__}") from error


def _signed(found: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return found.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # a key of another kind is a TypeError
    except TypeError:
        return False


# ---- certificates -------------------------------------------------------------------------------------------------------------------
def _is_valid(found: x509.Certificate, time: datetime | None) -> bool:
    return time is None or found.not_valid_before_utc <= time <= found.not_valid_after_utc


def is_strong(found: x509.Certificate) -> bool:
    """Whether a signature by its key is a proof: RSA or an elliptic curve, long enough. Raises what ODD names."""
    key = found.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size >= RSA_BITS_MIN
    return isinstance(key, ec.EllipticCurvePublicKey) and key.key_size >= CURVE_BITS_MIN


def has_thumbprint(found: x509.Certificate, name: str) -> bool:
    """Whether a certificate is the one that is named so."""
    digest = sha256(found.public_bytes(Encoding.DER)).digest()
    return name.lower() == digest.hex() or name.rstrip("=") == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def moment(text: object) -> datetime | None:
    """A time as documents write it; None for what is none or has no zone."""
    try:
        found = datetime.fromisoformat(text.strip()) if isinstance(text, str) else None
        return None if found is None or found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):  # the first hours of year 1 east of Greenwich are in no year
        return None


def _claim(signer: x509.Certificate, claimed: datetime) -> str:
    outside = "" if _is_valid(signer, claimed) else ", when its certificate was not valid"
    return f"{OWN_ACCOUNT} {_iso(claimed)}{outside}"


def _why(text: str) -> str:
    return next((why for word, why in REASONS if word in text), RULES)


def _iso(time: datetime) -> str:
    return time.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
