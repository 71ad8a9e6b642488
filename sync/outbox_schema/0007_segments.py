"""Segments in place of the index of every position, which cost two pages a group."""

from typing import Any

from sync.outbox_segments import FILL, TABLE


def up(_migrator: Any, db: Any) -> None:
    """Make the table, fill it from the index, and let the index go: its pages are room for the next messages."""
    for statement in (TABLE, FILL, "DROP INDEX header_position"):
        db.execute_sql(statement)
