"""The outbox's first schema: logs with their heads, records in two parts, tiles, cursors, boots."""

from typing import Any

STATEMENTS = (
    # one row per log: its head. Overwritten by every group commit, so it stays small; `digest` is over all its other columns
    """CREATE TABLE log (id INTEGER PRIMARY KEY, stream TEXT NOT NULL, epoch INTEGER NOT NULL, tag TEXT NOT NULL, lane TEXT NOT NULL,
       size INTEGER NOT NULL, peaks BLOB NOT NULL, octets INTEGER NOT NULL, trimmed INTEGER NOT NULL, group_first INTEGER NOT NULL, checkpoint BLOB NOT NULL,
       digest BLOB NOT NULL, UNIQUE (stream, epoch)) STRICT""",
    # the permanent part
    """CREATE TABLE header (id INTEGER PRIMARY KEY, log INTEGER NOT NULL, seq INTEGER NOT NULL, state INTEGER NOT NULL,
       header BLOB, leaf BLOB NOT NULL) STRICT""",
    "CREATE UNIQUE INDEX header_position ON header (log, seq)",
    # the erasable part, under the header's id; plain rowid: an SD card dies of composite keys
    "CREATE TABLE body (id INTEGER PRIMARY KEY, salt BLOB NOT NULL, particulars BLOB NOT NULL, body BLOB NOT NULL) STRICT",
    "CREATE TABLE tile (log INTEGER NOT NULL, tile INTEGER NOT NULL, root BLOB NOT NULL, PRIMARY KEY (log, tile)) STRICT, WITHOUT ROWID",
    # how far each ledger has receipted each log
    """CREATE TABLE cursor (ledger TEXT NOT NULL, log INTEGER NOT NULL, size INTEGER NOT NULL, octets INTEGER NOT NULL,
       receipt BLOB NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (ledger, log)) STRICT, WITHOUT ROWID""",
    # every start of this node since the last admitted one
    "CREATE TABLE boot (id BLOB PRIMARY KEY, started_us INTEGER NOT NULL) STRICT",
    "CREATE TABLE fact (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID",
)


def up(_migrator: Any, db: Any) -> None:
    """Make the tables."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
