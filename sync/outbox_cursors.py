"""How far each ledger has receipted each log: written with every receipt, so what was just written need not be read back for the next one."""

from typing import Final

import apsw

from sync.outbox_bodies import body_bytes, receipted
from sync.outbox_heads import Head
from sync.transaction import Transactions, reading

CURSORS_MAX = (
    1024  # remembered: as many logs as a node has streams and epochs in any use that was seen; the others are read
)
_KEEP: Final = "INSERT OR REPLACE INTO cursor (ledger, log, size, octets, receipt, at) VALUES (?, ?, ?, ?, ?, ?)"


class Cursors:
    """The cursors of one outbox. One thread only, as its."""

    def __init__(self, connection: apsw.Connection, transactions: Transactions) -> None:
        self._connection, self._transactions = connection, transactions
        self._known: dict[
            tuple[str, int], tuple[int, int]
        ] = {}  # (ledger, log) -> size and octets, as they were committed

    def keep(self, *, ledger: str, head: Head, size: int, receipt: bytes, at: int) -> None:
        """Move a ledger's cursor of a log forward to `size`; never back. Raises NoRoom, CommitUnknown, LogBroken."""
        with reading():
            before, octets = self._known.get((ledger, head.log)) or receipted(self._connection, ledger, head)
            if size < before:
                return
            # not within the transaction: SQLite ends one that has met a damaged page. Of all that there is, the head knows the bytes
            at_end = size == head.frontier.size
            octets = head.octets if at_end else octets + body_bytes(self._connection, head, before, size)
        self._transactions.alone(_KEEP, (ledger, head.log, size, octets, receipt, at), grows=False)
        if len(self._known) >= CURSORS_MAX:
            self._known.clear()
        self._known[ledger, head.log] = size, octets

    def forget(self) -> None:
        """Rows may be gone: where an epoch cuts an older log, a receipt beyond the cut goes with it."""
        self._known.clear()
