"""Further epochs of a stream: windows on one run of rows (`run` 0: the log's own), and the signed statement that opened each."""

from typing import Any

STATEMENTS = (
    "ALTER TABLE log ADD COLUMN run INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE log ADD COLUMN start INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE log ADD COLUMN opening BLOB NOT NULL DEFAULT x''",
)


def up(_migrator: Any, db: Any) -> None:
    """Add the columns."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
