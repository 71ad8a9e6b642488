"""The judge of nodes' log certificates: those of a session or a stick, and those that a change of the log key brings."""

from collections.abc import Callable, Iterable

from cryptography import x509

from gateway.identity import ValidityList
from gateway.ledger_keys import Brought
from sync.batch import Batch
from sync.certificates import check_chain, der, node_of, read, verifier_of
from sync.errors import BadCertificate, NotARecord
from sync.key_change import change_in


class AnothersCertificate(BadCertificate):
    """A good certificate of another node."""


class Revoked(BadCertificate):
    """A certificate that the validity list names."""


class LogCertificates:
    """Judges by our authority and the validity list in force. `now` is POSIX seconds, UTC."""

    def __init__(self, anchor: x509.Certificate, validity: ValidityList, now: Callable[[], float]) -> None:
        self._anchor, self._validity, self._now = anchor, validity, now

    def current(self, data: bytes, node: str) -> bytes:
        """The certificate (PEM or DER) as DER, if our authority gave it to this node for its log and it is valid now. Raises BadCertificate."""
        return self._judged(read(data), node, int(self._now()))

    def earlier(self, pems: Iterable[str], node: str) -> tuple[Brought, ...]:
        """Of the certificates of earlier log keys those that are good. One that has expired may go on with what its key had begun, no more:
        a node may have been without a link for longer than its certificate was good for.
        """
        found = []
        for pem in pems:
            try:
                certificate = read(pem.encode())
                end = int(certificate.not_valid_after_utc.timestamp())
                judged = self._judged(certificate, node, min(int(self._now()), end))
            except BadCertificate:
                continue  # it counts for nothing; what needs it is refused by the ledger, with a code of its own
            found.append(Brought(judged, current=self._now() <= end))
        return tuple(found)

    def vouched(self, batch: Batch) -> tuple[bytes, ...]:
        """The certificates that change records of this batch bring, of those the good ones."""
        found = []
        for record in batch.records:
            try:
                change = change_in(record)
                if change is not None and self.current(change.certificate, batch.node) == change.certificate:
                    found.append(change.certificate)
            except (NotARecord, BadCertificate):
                continue  # as above
        return tuple(found)

    def _judged(self, certificate: x509.Certificate, node: str, at: int) -> bytes:
        named = node_of(certificate, "log")
        verifier_of(certificate, node)
        check_chain(certificate, (), self._anchor, at=at)
        if named != node:
            raise AnothersCertificate("the log certificate is another node's")
        if self._validity.revokes(certificate):
            raise Revoked("the log certificate is on the validity list")
        return der(certificate)
