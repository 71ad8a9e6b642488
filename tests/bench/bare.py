"""The ceiling: a bare loop that commits groups of the very rows an outbox holds. Run: python bare.py OUTBOX SCRATCH GROUP SECONDS"""

import json
import sys
import time

import apsw


def main(outbox: str, scratch: str, group: int, seconds: float) -> None:
    source = apsw.Connection(outbox, flags=apsw.SQLITE_OPEN_READONLY)
    headers = source.execute("SELECT log, state, header, leaf FROM header ORDER BY id LIMIT ?", (group,)).fetchall()
    bodies = source.execute("SELECT salt, particulars, body FROM body ORDER BY id LIMIT ?", (group,)).fetchall()
    schema = [
        row[0]
        for row in source.execute(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND tbl_name IN ('header', 'body')"
        )
    ]
    database = apsw.Connection(scratch)
    for pragma in ("journal_mode = wal", "synchronous = full", "cache_size = -2048"):
        database.execute(f"PRAGMA {pragma}")
    for statement in schema:
        database.execute(statement)
    row, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        database.execute("BEGIN IMMEDIATE")
        database.executemany(
            "INSERT INTO header (id, log, seq, state, header, leaf) VALUES (?, ?, ?, ?, ?, ?)",
            [(row + n, log, row + n, state, header, leaf) for n, (log, state, header, leaf) in enumerate(headers)],
        )
        database.executemany(
            "INSERT INTO body (id, salt, particulars, body) VALUES (?, ?, ?, ?)",
            [(row + n, *body) for n, body in enumerate(bodies)],
        )
        database.execute("COMMIT")
        row += group
    print(json.dumps({"per_s": row / (time.perf_counter() - began), "group": group}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
