"""Where an outbox's records lie: positions of a run that follow each other lie in rows that follow each other, and one small row says so for all of them.

An index of every position was rewritten by every group: one leaf, at each overflow three more, and their parent (decision 33). Here a group
writes nothing while it follows on what its stream stored last. A row of `header` names its run and place too; only where both agree is it the
record of that place, so a flipped bit in either makes a record missing, and missing is noticed. `wasl repair` reads the rows alone.
"""

# `shift` is a row's id less its place, from place `first` on to where the next segment begins
TABLE = "CREATE TABLE segment (run INTEGER NOT NULL, first INTEGER NOT NULL, shift INTEGER NOT NULL, PRIMARY KEY (run, first)) STRICT, WITHOUT ROWID"

# FROM, WHERE and ORDER BY of a statement on the columns of `header`, for places ?2 .. ?3 - 1 of run ?1
ROWS = "segment CROSS JOIN header"
AT_PLACES = (
    "segment.run = ?1 AND first < ?3"
    " AND first >= coalesce((SELECT max(first) FROM segment WHERE run = ?1 AND first <= ?2), ?2)"
    " AND header.id >= max(first, ?2) + shift AND header.id < shift + min("
    "?3, coalesce((SELECT min(other.first) FROM segment AS other WHERE other.run = ?1 AND other.first > segment.first), ?3))"
    " AND header.log = ?1 AND seq = header.id - shift"
)
IN_ORDER = "first, header.id"

# run, place and row of a group's first record: a new segment where they do not follow on the last one of the run
FOLLOW = """INSERT OR REPLACE INTO segment (run, first, shift) SELECT {run}, {place}, {row} - {place}
WHERE {row} - {place} IS NOT (SELECT shift FROM segment WHERE run = {run} ORDER BY first DESC LIMIT 1)"""

# of all rows of `header`; with an index of log and seq this needs no sorting
FILL = """INSERT INTO segment (run, first, shift) SELECT log, seq, id - seq FROM
(SELECT log, seq, id, lag(id - seq) OVER (PARTITION BY log ORDER BY seq) AS before FROM header) WHERE id - seq IS NOT before"""
