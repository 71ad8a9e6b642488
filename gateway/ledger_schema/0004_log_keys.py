"""Which log key is in force for each log, where in it the key changed, and which keys a node's last session brought."""

from typing import Any

STATEMENTS = (
    # the certificate of the key that signed the head; 0: nothing has been signed yet
    "ALTER TABLE log ADD COLUMN certificate INTEGER NOT NULL DEFAULT 0",
    # until now one key signed all that a node has
    "UPDATE log SET certificate = coalesce((SELECT certificate FROM node WHERE name = log.node), 0) WHERE size > 0 OR opening <> x''",
    # record `seq` handed over from one certificate's key to another's
    """CREATE TABLE key_change (log INTEGER NOT NULL, seq INTEGER NOT NULL, before INTEGER NOT NULL, after INTEGER NOT NULL,
       PRIMARY KEY (log, seq)) STRICT, WITHOUT ROWID""",
    # `current`: valid when the session was opened, so it may begin a log; else it may only go on with what it had begun
    """CREATE TABLE session_key (node TEXT NOT NULL, certificate INTEGER NOT NULL, current INTEGER NOT NULL,
       PRIMARY KEY (node, certificate)) STRICT, WITHOUT ROWID""",
    "INSERT INTO session_key SELECT name, certificate, 1 FROM node WHERE certificate <> 0",
)


def up(_migrator: Any, db: Any) -> None:
    """Add the column and the tables, and fill them for what is there."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
