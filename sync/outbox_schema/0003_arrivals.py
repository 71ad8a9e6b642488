"""What knows a repeat of a message whose body was trimmed: the salt and particulars of late arrivals, without their bodies."""

from typing import Any

# under the header's id; bounded by the arrivals that are remembered at all
STATEMENT = "CREATE TABLE arrival (id INTEGER PRIMARY KEY, salt BLOB NOT NULL, particulars BLOB NOT NULL) STRICT"


def up(_migrator: Any, db: Any) -> None:
    """Make the table."""
    db.execute_sql(STATEMENT)
