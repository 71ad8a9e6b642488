"""A body that goes ahead of its batch in parts: packed once, named by its record's commitment, proved by the SHA-256 of its bytes (docs/wire.md, section 6.1).

The commitment is salted, so the name says nothing of the body; the packed bytes depend on the body alone, so a node that was restarted goes
on where it stopped.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from backports import zstd

from sync.errors import BadUpload

UPLOAD_BODY_MAX = 24 * 1024 * 1024  # as a batch's content: what fits one record alone
UPLOAD_BYTES_MAX = UPLOAD_BODY_MAX + 64 * 1024  # what does not compress grows by a few bytes a block
PART_BYTES_MAX = 1024 * 1024  # the largest quantum and more: a part is held whole in memory and synced at once
ZSTD_LEVEL = 3  # as of a batch
WINDOW_LOG_MAX = 25  # as of a batch
ID = re.compile(r"[0-9a-f]{64}")

Fetch = Callable[[bytes, bytes, int], bytes]
"""Give an uploaded body by its record's commitment, the SHA-256 of the upload, and its length. Raises BadUpload."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A body on its way ahead of its batch: packed bytes under their id."""

    commitment: bytes
    digest: bytes
    packed: bytes

    @property
    def id(self) -> str:
        """How the gateway keeps it."""
        return self.commitment.hex()


def pack(commitment: bytes, body: bytes) -> Upload:
    """A body made ready to go in parts."""
    packed = zstd.compress(body, ZSTD_LEVEL)
    return Upload(commitment, sha256(packed).digest(), packed)


def unpack(packed: bytes, digest: bytes, body_bytes: int) -> bytes:
    """The body again. Raises BadUpload where the bytes are others than were named, or not that body's length."""
    if sha256(packed).digest() != digest:
        raise BadUpload("the upload's bytes are not those that the batch names")
    if not 0 <= body_bytes <= UPLOAD_BODY_MAX:
        raise BadUpload("the upload's body is too long")
    try:
        decompressor = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: WINDOW_LOG_MAX})
        body = decompressor.decompress(packed, body_bytes + 1)
    except zstd.ZstdError as error:
        raise BadUpload("the upload does not decompress") from error
    if len(body) != body_bytes or not decompressor.eof or decompressor.unused_data:
        raise BadUpload("the upload's body has another length")
    return body
