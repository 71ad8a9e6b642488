"""The hospital's notebook: what it calls lost, doubled and confirmed, whatever comes first."""

from random import Random

import pytest

from node.tools.demo_notebook import COMPACT_AT, Mark, Notebook, Tally

PREFIX = "7-3-"


def told(book: Notebook, mark: Mark | None = None) -> Tally:
    return book.tally(mark or book.mark())


def filled(*numbers: int, stream: str = "his") -> Notebook:
    book = Notebook(PREFIX)
    for number in numbers:
        book.acknowledged(stream, f"{PREFIX}{number:06d}")
    return book


def arrive(book: Notebook, *numbers: int, stream: str = "his") -> None:
    for number in numbers:
        book.arrived(stream, f"{PREFIX}{number:06d}")


def test_what_is_acknowledged_waits_until_it_arrives():
    book = filled(1, 2, 3)
    arrive(book, 1)
    assert told(book) == Tally(sent=3, confirmed=1, waiting=2, lost=0, doubled=0)
    arrive(book, 2, 3)
    assert told(book) == Tally(sent=3, confirmed=3, waiting=0, lost=0, doubled=0)


def test_later_one_of_the_same_stream_proves_the_missing_one_lost():
    book = filled(1, 2, 3)
    arrive(book, 1, 3)
    assert told(book) == Tally(sent=3, confirmed=2, waiting=0, lost=1, doubled=0)


def test_later_one_of_another_stream_proves_nothing():
    book = filled(1, 2)
    book.acknowledged("orders", f"{PREFIX}000003")
    arrive(book, 3, stream="orders")
    assert told(book) == Tally(sent=3, confirmed=1, waiting=2, lost=0, doubled=0)


@pytest.mark.parametrize("again", [1, 2])
def test_one_that_comes_again_or_out_of_order_is_doubled(again):
    book = filled(1, 2)
    arrive(book, 1, 2, again)
    assert told(book) == Tally(sent=2, confirmed=2, waiting=0, lost=0, doubled=1)


def test_one_that_arrives_before_its_reply_is_confirmed_once():
    book = filled(1)
    arrive(book, 1, 2)
    assert told(book).confirmed == 1
    book.acknowledged("his", f"{PREFIX}000002")
    assert told(book) == Tally(sent=2, confirmed=2, waiting=0, lost=0, doubled=0)
    arrive(book, 2)
    assert told(book).doubled == 1


def test_mark_counts_only_what_was_acknowledged_before_it():
    book = filled(1, 2)
    mark = book.mark()
    book.acknowledged("his", f"{PREFIX}000003")
    arrive(book, 1, 2)
    assert told(book, mark) == Tally(sent=2, confirmed=2, waiting=0, lost=0, doubled=0)


@pytest.mark.parametrize("control_id", ["", "7-3-", "7-4-000001", "8-3-000001", "7-3-x", "7-3--1", "MSG00001"])
def test_other_peoples_messages_are_passed_over(control_id):
    book = filled(1)
    book.arrived("his", control_id)
    assert told(book) == Tally(sent=1, confirmed=0, waiting=1, lost=0, doubled=0)


def test_memory_is_given_back_while_messages_pass():
    book = Notebook(PREFIX)
    for number in range(1, 3 * COMPACT_AT):
        book.acknowledged("his", f"{PREFIX}{number}")
        book.arrived("his", f"{PREFIX}{number}")
    assert len(book._streams["his"].waiting) <= COMPACT_AT
    assert told(book).confirmed == 3 * COMPACT_AT - 1


@pytest.mark.parametrize("seed", range(20))
def test_count_agrees_with_a_plain_set(seed):
    """The same loss and doubling, found by keeping everything."""
    dice, book = Random(seed), Notebook(PREFIX)
    acknowledged, seen, doubled, waiting = [], set(), 0, []
    for number in range(1, 300):
        book.acknowledged("his", f"{PREFIX}{number}")
        acknowledged.append(number)
        waiting.append(number)
        while waiting and dice.random() < 0.6:
            following = waiting.pop(0)
            if dice.random() < 0.05:
                continue  # lost
            for _ in range(2 if dice.random() < 0.05 else 1):
                doubled += following in seen
                seen.add(following)
                book.arrived("his", f"{PREFIX}{following}")
    last = max(seen)
    lost = sum(number < last and number not in seen for number in acknowledged)
    assert told(book) == Tally(
        sent=len(acknowledged), confirmed=len(seen), waiting=len(acknowledged) - len(seen) - lost, lost=lost, doubled=doubled
    )  # fmt: skip
