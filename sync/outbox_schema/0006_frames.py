"""Frames of transfers that are not a record yet: a source that repeats what was not acknowledged, part by part, is owed each part it was told we have."""

from typing import Any

STATEMENTS = (
    # `transfer` names one transfer of one line of `feed`; `place` counts its frames; `digest` is over all other columns
    """CREATE TABLE frame (transfer TEXT NOT NULL, place INTEGER NOT NULL, feed TEXT NOT NULL, peer TEXT NOT NULL, at_us INTEGER NOT NULL,
       text BLOB NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (transfer, place)) STRICT, WITHOUT ROWID""",
)


def up(_migrator: Any, db: Any) -> None:
    """Make the table."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
