"""Where each of the site's own systems stands in each stream, and the messages that one of them did not take."""

from typing import Any

STATEMENTS = (
    # `run`: the rows that all epochs of a stream share, so a further epoch moves no position. `place`: of the next record in them, `part`: of
    # the next message in it. `number`: the next message's, where the peer counts; `given_*`: the message that may have been sent with it.
    # `turn` counts what a person changed; `digest` is over all other columns
    """CREATE TABLE destination (name TEXT NOT NULL, run INTEGER NOT NULL, place INTEGER NOT NULL, part INTEGER NOT NULL, number INTEGER NOT NULL,
       given_place INTEGER, given_part INTEGER, turn INTEGER NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (name, run)) STRICT, WITHOUT ROWID""",
    # the records place..last of a run, whole (`part` NULL), or one message of one record. `reason` is the first one; `replay`: 1 where a person
    # asked for it, `done` then says how many messages of the record at `place` are through
    """CREATE TABLE parked (id INTEGER PRIMARY KEY, name TEXT NOT NULL, run INTEGER NOT NULL, place INTEGER NOT NULL, last INTEGER NOT NULL,
       part INTEGER, reason TEXT NOT NULL, detail TEXT NOT NULL, at_us INTEGER NOT NULL, tries INTEGER NOT NULL, replay INTEGER NOT NULL,
       done INTEGER NOT NULL) STRICT""",
    "CREATE INDEX parked_by_name ON parked (name, run, place)",
)


def up(_migrator: Any, db: Any) -> None:
    """Make the tables."""
    for statement in STATEMENTS:
        db.execute_sql(statement)
