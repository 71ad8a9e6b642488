"""A change of the log key, as the log itself says it: a control record that names both keys and the new one's certificate (docs/wire.md, 4.7)."""

import base64
import binascii
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from sync.control import CONTENT_TYPE, Members, Moment, decode, draft
from sync.errors import NotAName, NotARecord, SyncError
from sync.header import Header
from sync.header import decode as decode_header
from sync.keys import PUBLIC_BYTES
from sync.names import EPOCH_MAX, check_name
from sync.record import BodyState, Draft, Kind, Record

KEY_CHANGE: Final = "key-change"
MARK: Final = KEY_CHANGE.encode()  # stands in the header as it is: what lacks it need not be decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    """From its own position on, `after` signs this log in place of `before` (raw public keys). `certificate` is that of `after`, DER."""

    stream: str
    epoch: int
    before: bytes
    after: bytes
    certificate: bytes

    def members(self) -> Members:
        """What the record's body says."""
        return {
            "after": self.after.hex(), "before": self.before.hex(), "certificate": base64.b64encode(self.certificate).decode(),
            "epoch": self.epoch, "fingerprint": sha256(self.certificate).hexdigest(), "stream": self.stream,
        }  # fmt: skip

    def draft(self, *, facility: str, at: Moment) -> Draft:
        """The record that says it, for its own stream."""
        return draft(KEY_CHANGE, self.members(), stream=self.stream, facility=facility, at=at)


def read_key_change(members: Members) -> KeyChange:
    """The change that a control record of kind `key-change` names; members that are not known are left alone. Raises NotARecord."""
    stream, epoch = members.get("stream"), members.get("epoch")
    if type(epoch) is not int or not 0 < epoch <= EPOCH_MAX or not isinstance(stream, str):
        raise NotARecord("a key change of no log")
    try:
        change = KeyChange(
            stream=check_name(stream), epoch=epoch, before=_key(members, "before"), after=_key(members, "after"),
            certificate=base64.b64decode(_text(members, "certificate"), validate=True),
        )  # fmt: skip
    except (NotAName, binascii.Error, ValueError) as error:
        raise NotARecord("a key change that names no keys") from error
    told = change.members()
    if any(members.get(name) != value for name, value in told.items()) or change.before == change.after:
        raise NotARecord("a key change whose parts differ")
    return change


def header_of_change(record: Record) -> Header | None:
    """The header of a record that changes the log key, whether its body is there or not; None for any other."""
    if MARK not in record.header:
        return None
    try:
        header = decode_header(record.header)
    except SyncError:
        return None
    says = (header.kind, header.message_type, header.content_type) == (Kind.CONTROL, KEY_CHANGE, CONTENT_TYPE)
    return header if says else None


def change_in(record: Record) -> KeyChange | None:
    """What a record says of the log key; None where it is no change of it, or its body is gone. Raises NotARecord."""
    header = header_of_change(record)
    if header is None or record.state is not BodyState.PRESENT:
        return None
    return read_key_change(decode(header, record.body)[1])


def _key(members: Members, name: str) -> bytes:
    key = bytes.fromhex(_text(members, name))
    if len(key) != PUBLIC_BYTES:
        raise ValueError(name)
    return key


def _text(members: Members, name: str) -> str:
    found: Any = members.get(name)
    if not isinstance(found, str):
        raise ValueError(name)  # noqa: TRY004  # told by the caller as any other value that is wrong
    return found
