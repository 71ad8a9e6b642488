"""What nodes have announced: the signed end of each stream's newest log that they still hold records of."""

from typing import Any

# one row per stream, overwritten: the newest word stands
STATEMENT = """CREATE TABLE announced (node TEXT NOT NULL, stream TEXT NOT NULL, epoch INTEGER NOT NULL, tag TEXT NOT NULL, size INTEGER NOT NULL,
   root BLOB NOT NULL, note BLOB NOT NULL, at_us INTEGER NOT NULL, PRIMARY KEY (node, stream)) STRICT, WITHOUT ROWID"""


def up(_migrator: Any, db: Any) -> None:
    """Make the table."""
    db.execute_sql(STATEMENT)
