"""A group that SQLite cuts out of joined bytes lies there exactly as one that was inserted row by row."""

from contextlib import closing
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync import group
from sync.group import BODY_BITS, HEADER_BITS, PARTICULARS_BITS, insert
from sync.log import Frontier
from sync.names import Origin
from sync.outbox import SCHEMA
from sync.outbox_heads import insert_head, read_heads
from sync.store import create


@pytest.fixture(scope="module")
def connection(tmp_path_factory):
    with closing(create(tmp_path_factory.mktemp("group") / "a.db", SCHEMA)) as made:
        group.prepare(made.raw())
        yield made.raw()


def rows(connection) -> tuple[list, list]:
    headers = list(connection.execute("SELECT id, log, seq, state, header, leaf FROM header ORDER BY id"))
    return headers, list(connection.execute("SELECT id, salt, particulars, body FROM body ORDER BY id"))


def both(connection, headers: list[bytes], particulars: list[bytes], bodies: list[bytes], *, fast: bool = True) -> None:
    """Insert by the way that is chosen, and compare with what was given."""
    count = len(headers)
    leaves, salts = bytes(n % 251 for n in range(32 * count)), bytes(n % 241 for n in range(16 * count))
    connection.execute("BEGIN")
    try:
        made = insert_head(connection, origin=Origin("n1", "his", 1, "0123abcd"), lane="bulk", checkpoint=b"empty")
        head = replace(
            made, frontier=Frontier(40 + count, bytes(range(64))), octets=9, group_first=40, checkpoint=b"note"
        )
        given = group.Group(head, headers, leaves, salts, particulars, bodies)
        assert (group.pack(1000, given) is not None) == fast
        insert(connection, 1000, given)
        found = rows(connection)
        assert list(read_heads(connection, "n1")) == [head]
    finally:
        connection.execute("ROLLBACK")
    assert found == (
        [(1000 + n, head.log, 40 + n, 0, headers[n], leaves[32 * n : 32 * n + 32]) for n in range(count)],
        [(1000 + n, salts[16 * n : 16 * n + 16], particulars[n], bodies[n]) for n in range(count)],
    )


PARTS = st.binary(max_size=40)


@given(st.lists(st.tuples(PARTS, PARTS, PARTS), min_size=1, max_size=20))
def test_every_group_lies_there_as_it_was_given(connection, found):
    headers, particulars, bodies = (list(each) for each in zip(*found, strict=True))
    both(connection, headers, particulars, bodies)


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 5000])
def test_group_of_any_size_lies_there_as_it_was_given(connection, count):
    dice = Random(count)
    parts = [[dice.randbytes(dice.randrange(300)) for _ in range(count)] for _ in range(3)]
    both(connection, *parts)


def test_group_of_one_is_stored_without_cutting_it_out_of_joined_bytes(connection, monkeypatch):
    # neither the kernel that joins nor the statement that cuts has a part in it
    monkeypatch.setattr(group, "pack_rows", None)
    monkeypatch.setattr(group, "STORE", "no statement")
    both(connection, [b"h"], [b""], [b""])


def test_group_of_nothing_but_empty_parts_is_stored_as_empty_and_not_as_absent(connection):
    both(connection, [b"", b""], [b"", b""], [b"", b""])


def test_longest_particulars_that_can_be_packed_and_longer_ones_are_stored(connection):
    longest = b"p" * ((1 << PARTICULARS_BITS) - 1)
    both(connection, [b"h"] * 3, [b"a", longest, b"b"], [b"x", b"y", b"z"])
    both(connection, [b"h"] * 3, [b"a", longest + b"p", b"b"], [b"x", b"y", b"z"], fast=False)


def test_longest_header_that_can_be_packed_and_a_longer_one_are_stored(connection):
    longest = b"h" * ((1 << HEADER_BITS) - 1)
    both(connection, [longest, b"", longest], [b"p"] * 3, [b"x"] * 3)
    both(connection, [b"h", longest + b"h"], [b"p"] * 2, [b"x"] * 2, fast=False)


def test_largest_group_that_can_be_packed_and_a_larger_one_are_stored(connection):
    body = b"m" * ((1 << BODY_BITS) - 1)
    both(connection, [b"h"] * 3, [b"", b"", b""], [b"", body, b"zzzz"])
    both(connection, [b"h"] * 3, [b"", b"x", b""], [b"", body, b"zzzz"], fast=False)
    both(connection, [b"h"], [b"p" * 1000], [body])


def test_largest_frame_that_a_feed_may_take_is_stored(connection):
    both(connection, [b"h"], [b"p"], [bytes(16 * 1024 * 1024)])
