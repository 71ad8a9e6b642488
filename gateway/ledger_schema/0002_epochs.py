"""Further epochs: the statement that opened each log, and the releases of what was held, with who gave them."""

from typing import Any

STATEMENTS = (
    "ALTER TABLE log ADD COLUMN opening BLOB NOT NULL DEFAULT x''",
    # what a person signed; kept for ever, as what it released was delivered on its word
    """CREATE TABLE release (id INTEGER PRIMARY KEY, node TEXT NOT NULL, operator TEXT NOT NULL, statement BLOB NOT NULL,
       signed_at INTEGER NOT NULL, at_us INTEGER NOT NULL) STRICT""",
)


def up(_migrator: Any, db: Any) -> None:
    """Add the column and the table."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
