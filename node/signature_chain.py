"""From a signer's certificate to an authority that the site knows, and whether it is revoked. Purposes are not looked at: the site names who may sign."""

import base64
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from node.errors import AuthoritiesBad

CHAIN_MAX = 5  # certificates from the signer to the authority, both included
BLIND = "the site's authorities cannot be read"
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
        path = self._path(signer, others, CHAIN_MAX, self._time)
        if path is None:
            is_late = self._time is not None and self._path(signer, others, CHAIN_MAX, None) is not None
            return Judged("unknown signer", "a certificate was not valid when it came" if is_late else "", notes)
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
        self, found: x509.Certificate, others: list[x509.Certificate], left: int, time: datetime | None
    ) -> list[x509.Certificate] | None:
        """The certificates from this one to one of the authorities, directly or through some that came along."""
        if not left or not _is_valid(found, time):
            return None
        if found in self._authorities:
            return [found]
        for each in self._authorities:
            if _issued(found, each) and _is_valid(each, time):
                return [found, each]
        for each in others[:CHAIN_MAX]:
            if each != found and _issued(found, each):
                rest = self._path(each, others, left - 1, time)
                if rest is not None:
                    return [found, *rest]
        return None

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
        return found.issuer, Revocations(
            found.next_update_utc, {each.serial_number: each.revocation_date_utc for each in found}
        )
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


def _issued(found: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether an authority's certificate signed this one."""
    try:
        if not issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        found.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, InvalidSignature, *ODD):
        return False
    return True


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


def _iso(time: datetime) -> str:
    return time.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
