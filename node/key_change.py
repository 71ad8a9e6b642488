"""A new log key at a start: every stream is handed over to it before the first message is taken."""

import structlog
from cryptography.hazmat.primitives.serialization import Encoding

from node.clock import Clock
from node.keystore import Keystore
from sync.control import Moment
from sync.key_change import KeyChange
from sync.keys import Signer
from sync.names import Origin
from sync.outbox import Outbox
from sync.record import Draft

log = structlog.get_logger()


def hand_over(outbox: Outbox, keystore: Keystore, clock: Clock, *, facility: str) -> None:
    """Write into every stream that the configured log key signs from here on. Nothing where it does already.

    Raises KeyAbsent, NoRoom, CommitUnknown. A crash before its commit: the next start does it; after it: the next start finds it done.
    """
    trust = clock.trust()
    at = Moment(received_us=clock.now_us(), clock_state=trust.state, clock_error_us=trust.error_us)
    certificate = keystore.log_certificate.public_bytes(Encoding.DER)

    def draft(origin: Origin, before: Signer, after: Signer) -> Draft:
        change = KeyChange(
            stream=origin.stream, epoch=origin.epoch, before=before.public, after=after.public, certificate=certificate
        )
        return change.draft(facility=facility, at=at)

    for origin in outbox.change_key(draft):
        log.warning("log_key.changed", stream=origin.stream, epoch=origin.epoch)
