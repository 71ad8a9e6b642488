"""The ledger's first schema: nodes and their starts, logs with their heads, records in two parts, tiles, certificates, alarms."""

from typing import Any

STATEMENTS = (
    # the last admitted start of each node; `held`: what it sends waits for a person's release
    """CREATE TABLE node (name TEXT PRIMARY KEY, boot TEXT NOT NULL, fence TEXT NOT NULL, held INTEGER NOT NULL, certificate INTEGER NOT NULL,
       admitted_us INTEGER NOT NULL) STRICT, WITHOUT ROWID""",
    # every start ever admitted
    "CREATE TABLE boot (node TEXT NOT NULL, boot TEXT NOT NULL, admitted_us INTEGER NOT NULL, PRIMARY KEY (node, boot)) STRICT, WITHOUT ROWID",
    # one row per log: its head. Every commit compares and swaps it
    """CREATE TABLE log (id INTEGER PRIMARY KEY, node TEXT NOT NULL, stream TEXT NOT NULL, epoch INTEGER NOT NULL, tag TEXT NOT NULL,
       lane TEXT NOT NULL, fence TEXT NOT NULL, size INTEGER NOT NULL, peaks BLOB NOT NULL, octets INTEGER NOT NULL, note BLOB NOT NULL,
       receipt_at INTEGER NOT NULL, UNIQUE (node, stream, epoch)) STRICT""",
    # positions committed while their node was held
    "CREATE TABLE hold (log INTEGER NOT NULL, first INTEGER NOT NULL, end INTEGER NOT NULL, PRIMARY KEY (log, first)) STRICT, WITHOUT ROWID",
    # header, body and tile are the outbox's (sync/outbox_schema): sync.store.LogTable reads and writes both
    """CREATE TABLE header (id INTEGER PRIMARY KEY, log INTEGER NOT NULL, seq INTEGER NOT NULL, state INTEGER NOT NULL,
       header BLOB, leaf BLOB NOT NULL) STRICT""",
    "CREATE UNIQUE INDEX header_position ON header (log, seq)",
    "CREATE TABLE body (id INTEGER PRIMARY KEY, salt BLOB NOT NULL, particulars BLOB NOT NULL, body BLOB NOT NULL) STRICT",
    "CREATE TABLE tile (log INTEGER NOT NULL, tile INTEGER NOT NULL, root BLOB NOT NULL, PRIMARY KEY (log, tile)) STRICT, WITHOUT ROWID",
    # log certificates of nodes and the gateway's own cosigning ones; a renewed one keeps the key, so the key id names several
    """CREATE TABLE certificate (id INTEGER PRIMARY KEY, owner TEXT NOT NULL, role TEXT NOT NULL, key_id BLOB NOT NULL,
       der BLOB NOT NULL, added_us INTEGER NOT NULL, UNIQUE (owner, role, key_id, der)) STRICT""",
    "CREATE TABLE fact (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID",
    # one row per kind of alarm and place, so that a node in a loop cannot fill the disk
    """CREATE TABLE alarm (code TEXT NOT NULL, node TEXT NOT NULL, stream TEXT NOT NULL, first_us INTEGER NOT NULL, last_us INTEGER NOT NULL,
       count INTEGER NOT NULL, PRIMARY KEY (code, node, stream)) STRICT, WITHOUT ROWID""",
)


def up(_migrator: Any, db: Any) -> None:
    """Make the tables."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
