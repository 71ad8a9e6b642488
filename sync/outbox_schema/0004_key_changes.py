"""Where in a log the key changed that signs it, and from which public key to which."""

from typing import Any

STATEMENTS = (
    """CREATE TABLE key_change (log INTEGER NOT NULL, seq INTEGER NOT NULL, before BLOB NOT NULL, after BLOB NOT NULL,
       PRIMARY KEY (log, seq)) STRICT, WITHOUT ROWID""",
)


def up(_migrator: Any, db: Any) -> None:
    """Make the table."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
