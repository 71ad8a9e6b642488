"""A digest of each parked message's row, in a table of its own, and no index of these rows. A release of before leaves its new rows without a digest,
and they are believed.
"""

from typing import Any

from sync.outbox_parked import TABLE, digest_all


def up(_migrator: Any, db: Any) -> None:
    """Make the table, digest what stands parked, let the index go."""
    db.execute_sql(TABLE)
    digest_all(db.connection())
    db.execute_sql("DROP INDEX parked_by_name")
