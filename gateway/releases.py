"""Judges what an operator signed, before the ledger releases anything on its word."""

from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509

from gateway.identity import ValidityList
from gateway.ledger import ReleaseCall
from gateway.problems import Problem
from sync.certificates import check_chain, operator_of, read, verifier_of
from sync.errors import SyncError
from sync.release import open_release

AGE_S_MAX = 3600  # an operator looks, signs and sends within minutes; an old release must not free what is held anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Releases:
    """What a release is judged by. `now` is POSIX seconds, UTC."""

    gateway: str
    anchor: x509.Certificate
    validity: ValidityList
    now: Callable[[], float]

    def judge(self, node: str, statement: bytes, certificate_pem: str) -> ReleaseCall:
        """The ledger's call for a release that is good. Raises Problem."""
        now = int(self.now())
        try:
            certificate = read(certificate_pem.encode())
            operator = operator_of(certificate)
            check_chain(certificate, (), self.anchor, at=now)
            release = open_release(statement, verifier_of(certificate, operator))
        except SyncError as error:
            raise Problem(422, "bad-release", str(error)) from error
        if self.validity.revokes(certificate):
            raise Problem(403, "revoked", "the operator's certificate is on the validity list")
        if (release.gateway, release.node) != (self.gateway, node):
            raise Problem(422, "bad-release", "the release is for another gateway or node")
        if abs(now - release.at) > AGE_S_MAX:
            raise Problem(422, "bad-release", "the release is not of this hour")
        return ReleaseCall(node=node, operator=operator, statement=statement, logs=release.logs, at=release.at)
