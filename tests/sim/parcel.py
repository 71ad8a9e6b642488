"""A batch that travels as the value it is: for most runs, in place of CBOR and zstd. The others pack and unpack every one."""

from dataclasses import replace

from native import body_commitment, leaf_hashes
from sync.batch import Batch
from sync.dictionary import EMPTY, Shelf
from sync.errors import BadBatch
from sync.header import COMMITMENT, decode_fields
from sync.record import BodyState, Record


class Parcel(bytes):
    """Bytes that stand for a batch; a part of them is bytes and no parcel."""

    batch: Batch

    def signed(self, checkpoint: bytes) -> "Parcel":
        """The same records under a checkpoint that bears other signatures."""
        return encode(replace(self.batch, checkpoint=checkpoint))


def encode(batch: Batch, shelf: Shelf = EMPTY, uploaded: object = None, context: object = None) -> Parcel:
    made = Parcel(batch.checkpoint)
    made.batch = batch
    return made


def decode(data: bytes, shelf: Shelf = EMPTY, fetch: object = None, recall: object = None) -> Batch:
    """As the production decode: leaves are computed from headers, and bodies must be what their headers commit to."""
    if not isinstance(data, Parcel):
        raise BadBatch("cut off")
    batch = data.batch
    return replace(batch, records=[_rebuilt(record, batch.first + n) for n, record in enumerate(batch.records)])


def _rebuilt(record: Record, seq: int) -> Record:
    if record.state is BodyState.LEAF_ONLY:
        return replace(record, seq=seq)
    if record.state is BodyState.PRESENT:
        found = body_commitment(record.salt, record.particulars, record.body)
        if found != decode_fields(record.header)[COMMITMENT]:
            raise BadBatch("a body is not what its header says")
    return replace(record, seq=seq, leaf=leaf_hashes([record.header]))
