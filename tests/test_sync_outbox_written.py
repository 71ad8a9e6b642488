"""What a message costs the card, with a ceiling: blocks that are dirty when a sync comes, counted below SQLite. Deterministic: no clock, no kernel."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager

import apsw
import pytest

from tests.outbox_rig import FAR, LEDGER, outbox, receipted
from tests.sim_realm import STREAM, draft

BLOCK_BYTES = 4096  # what a file system writes at least
MESSAGES = 3200  # two checkpoints of the WAL at groups of 32, four at 8
BODY = bytes(1024)


class Meter(apsw.VFS):
    """SQLite's files on the real disk; counts each block once for each sync that finds it changed."""

    def __init__(self) -> None:
        self.octets = 0
        self.dirty: defaultdict[str, set[int]] = defaultdict(set)
        super().__init__("meter", "")

    def xOpen(self, name, flags):
        return MeteredFile(self, name, flags)

    def take(self) -> int:
        octets, self.octets = self.octets, 0
        return octets


class MeteredFile(apsw.VFSFile):
    def __init__(self, meter: Meter, name, flags) -> None:
        self.meter = meter
        self.path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        super().__init__("", name, flags)

    def xWrite(self, data, offset):
        self.meter.dirty[self.path].update(range(offset // BLOCK_BYTES, (offset + len(data) - 1) // BLOCK_BYTES + 1))
        super().xWrite(data, offset)

    def xSync(self, flags):
        self.meter.octets += BLOCK_BYTES * len(self.meter.dirty.pop(self.path, ()))
        super().xSync(flags)


@contextmanager
def metered(folder) -> Iterator[tuple]:
    meter = Meter()
    try:
        with closing(outbox(folder, vfs="meter")) as made:
            meter.take()
            yield made, meter
    finally:
        meter.unregister()


# decision 33 says which pages these are; 7 and 4.2 kB are promised, half a page a group above what is measured (6.2 and 4.0 kB) is held
@pytest.mark.parametrize(("group", "ceiling"), [(8, 6_450), (32, 4_040)])
def test_a_message_of_1_kb_costs_the_card_no_more_than_its_ceiling(tmp_path, group, ceiling):
    with metered(tmp_path) as (made, meter):
        for first in range(0, MESSAGES, group):
            made.append([draft(n, body=BODY) for n in range(first, first + group)])
        made._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        assert 0 < meter.take() / MESSAGES <= ceiling


def test_trimming_a_message_of_1_kb_costs_the_card_no_more_than_3_kb(tmp_path):
    with metered(tmp_path) as (made, meter):
        for first in range(0, MESSAGES, 32):
            made.append([draft(n, body=BODY) for n in range(first, first + 32)])
        receipted(made, MESSAGES)
        made._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        meter.take()
        while made.trim(STREAM, ledger=LEDGER, received_before_us=FAR):
            pass
        made._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        assert 0 < meter.take() / MESSAGES <= 3_000
