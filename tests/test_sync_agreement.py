"""The search finds exactly the records that the gateway holds, whatever either side forgot."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.agreement import Question, Told, Window, find_common
from tests.naive_merkle import NaiveTree

QUESTIONS_MAX = 80


def leaf(n: int) -> bytes:
    return sha256(b"%d" % n).digest()


def root(leaves: list[int]) -> bytes:
    return NaiveTree([leaf(n) for n in leaves]).root(len(leaves))


def answer(gateway: dict[int, tuple[str, list[int]]], asked: Question) -> Told:
    tag, leaves = gateway.get(asked.epoch, ("", []))
    return Told(tag, len(leaves), root(leaves[: asked.size]) if asked.size <= len(leaves) else b"")


def search(run: list[int], windows: list[Window], gateway: dict[int, tuple[str, list[int]]]) -> int:
    """Drive a search to its end; the row from which on the gateway lacks ours."""
    looking = find_common(
        lambda start, size: root(run[start : start + size]), windows, end=len(run), theirs=max(gateway, default=0)
    )
    try:
        asked = next(looking)
        for _ in range(QUESTIONS_MAX):
            assert asked.size > 0
            asked = looking.send(answer(gateway, asked))
    except StopIteration as end:
        return end.value.place
    raise AssertionError("the search does not end")


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_common_part_of_two_logs_that_went_apart_is_found_to_the_record(same, ours, theirs):
    run = [*range(same), *range(1000, 1000 + ours)]
    held = [*range(same), *range(2000, 2000 + theirs)]
    assert search(run, [Window(1, "aaaaaaaa", 0, len(run))], {1: ("aaaaaaaa", held)}) == same


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_all_that_a_shorter_gateway_holds_is_found(first, second, held):
    run = list(range(first + second))
    windows = [Window(1, "aaaaaaaa", 0, first), Window(2, "bbbbbbbb", first, first + second)]
    gateway = {1: ("aaaaaaaa", run[: min(held, first)])}
    if held > first:
        gateway[2] = ("bbbbbbbb", run[first:held])
    assert search(run, windows, gateway) == min(held, first + second)


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 12), st.integers(0, 12))
def test_records_carried_into_an_epoch_that_was_forgotten_are_found_there(same, carried, fresh, later):
    run = [*range(same + carried), *range(1000, 1000 + fresh)]
    gateway = {
        1: ("aaaaaaaa", [*range(same), *range(500, 520)]),
        2: ("cccccccc", [*range(same, same + carried), *range(600, 600 + later)]),
    }
    assert search(run, [Window(1, "aaaaaaaa", 0, len(run))], gateway) == same + carried


def test_records_carried_into_a_forgotten_epoch_are_found_though_a_later_one_was_opened_here():
    run = [*range(8)]
    windows = [Window(1, "aaaaaaaa", 0, 6), Window(3, "dddddddd", 6, 8)]  # opened, and refused
    gateway = {1: ("aaaaaaaa", [*range(6), 500, 501]), 2: ("cccccccc", [6, 7, 600])}
    assert search(run, windows, gateway) == 8


def test_log_of_another_tag_under_the_same_number_holds_nothing_of_ours():
    run = list(range(8))
    assert search(run, [Window(1, "aaaaaaaa", 0, 8)], {1: ("bbbbbbbb", run)}) == 0


def test_gateway_that_holds_nothing_is_found_out_by_one_question():
    looking = find_common(lambda _start, _size: b"x", [Window(1, "aaaaaaaa", 0, 2_000_000)], end=2_000_000, theirs=0)
    assert next(looking) == Question(1, 2_000_000)
    with pytest.raises(StopIteration) as end:
        looking.send(Told("", 0, b""))
    assert end.value.value[:2] == (0, 0)
