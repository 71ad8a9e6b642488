"""From a signer's certificate to an authority that the site knows. Purpose and revocation are not looked at: the site names who may sign."""

from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from node.errors import AuthoritiesBad

CHAIN_MAX = 5  # certificates from the signer to the authority, both included


class Chain:
    """The site's authorities, and the time at which certificates have to be valid; None where no clock says it."""

    def __init__(self, authorities: list[x509.Certificate], time: datetime | None) -> None:
        self._authorities = authorities
        self._time = time

    def is_known(self, signer: x509.Certificate, others: list[x509.Certificate]) -> bool:
        """Whether the signer is one of the authorities' own, directly or through certificates that came along."""
        return self._is_known(signer, others, CHAIN_MAX)

    def _is_known(self, found: x509.Certificate, others: list[x509.Certificate], left: int) -> bool:
        if not left or not self._is_valid(found):
            return False
        if found in self._authorities:
            return True
        if any(_issued(found, each) and self._is_valid(each) for each in self._authorities):
            return True
        return any(
            each != found and _issued(found, each) and self._is_known(each, others, left - 1)
            for each in others[:CHAIN_MAX]
        )

    def _is_valid(self, found: x509.Certificate) -> bool:
        return self._time is None or found.not_valid_before_utc <= self._time <= found.not_valid_after_utc


def read_authorities(folder: Path) -> list[x509.Certificate]:
    """All certificates of a folder's PEM files. Raises AuthoritiesBad."""
    found: list[x509.Certificate] = []
    for path in sorted(folder.glob("*.pem")):
        try:
            found += x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, ValueError) as error:
            raise AuthoritiesBad(f"{path}: {type(error).__name__}") from error
    if not found:
        raise AuthoritiesBad(f"{folder}: no certificate")
    return found


def _issued(found: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether an authority's certificate signed this one."""
    try:
        if not issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        found.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, InvalidSignature, ValueError, TypeError):
        return False
    return True
