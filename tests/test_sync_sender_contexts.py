"""Dictionaries and contexts, as a sender uses them and gives them up."""

from dataclasses import replace

import pytest

from sync.pace import WAIT_S_MAX
from sync.sender_events import (
    EpochOpened,
    OwnLog,
    PathFailed,
    Phase,
    Refused,
    Tick,
)
from tests.sender_rig import opened, puts, receipt, sender
from tests.sim_realm import ORIGIN


def test_unknown_dictionary_sends_the_same_range_without_one_until_the_next_session():
    made = sender()
    (again,) = puts(made.handle(Refused("his", "unknown-dictionary"), 1.0))
    assert (again.first, again.records_max, again.plain) == (10, 30, True)
    (beyond,) = puts(made.handle(receipt(20), 2.0))
    assert (beyond.first, beyond.plain) == (20, True)
    made.handle(PathFailed("LNK-02"), 3.0)
    made.handle(Tick(), 3.0 + WAIT_S_MAX)
    (fresh,) = puts(made.handle(opened(20), 4.0 + WAIT_S_MAX))
    assert not fresh.plain


def test_context_is_as_long_as_the_gateway_says_and_an_older_one_that_says_nothing_gets_none():
    assert puts(sender(theirs=None).handle(opened(10, context=4711), 0.0))[0].context == 4711
    assert puts(sender(theirs=None).handle(opened(10), 0.0))[0].context == 0


def test_first_record_of_a_log_has_no_context():
    assert puts(sender(theirs=None).handle(opened(0, context=4711), 0.0))[0].context == 0


@pytest.mark.parametrize("code", ["unknown-dictionary", "bad-batch"])
def test_context_that_is_refused_is_left_out_before_anything_else_is_given_up(code):
    made = sender(context=4711)
    (again,) = puts(made.handle(Refused("his", code), 1.0))
    assert (again.first, again.records_max, again.plain, again.bare, again.context) == (
        10,
        30,
        False,
        False,
        0,
    )
    (beyond,) = puts(made.handle(receipt(20), 2.0))
    assert (beyond.first, beyond.since) == (20, 10)
    assert beyond.context == (4711 if code == "unknown-dictionary" else 0)  # who calls it bad may be an older gateway


def test_dictionary_is_left_out_where_it_was_not_the_context_that_was_unknown():
    made = sender(context=4711)
    made.handle(Refused("his", "unknown-dictionary"), 1.0)
    (again,) = puts(made.handle(Refused("his", "unknown-dictionary"), 1.0))
    assert again.plain
    (beyond,) = puts(made.handle(receipt(20), 2.0))
    assert (beyond.plain, beyond.context) == (True, 0)


def test_half_of_a_batch_that_was_refused_without_context_goes_without_it_too():
    made = sender(context=4711)
    made.handle(Refused("his", "bad-batch"), 1.0)
    (half,) = puts(made.handle(Refused("his", "bad-batch"), 1.0))
    assert (half.records_max, half.context) == (15, 0)


def test_contexts_are_tried_again_after_the_next_session_but_never_those_that_the_gateway_had_not():
    made = sender(context=4711)
    for size in (20, 30, 35):
        made.handle(Refused("his", "unknown-dictionary"), 1.0)
        (beyond,) = puts(made.handle(receipt(size), 1.0))
    assert beyond.context == 0
    made.handle(PathFailed("LNK-02"), 3.0)
    made.handle(Tick(), 3.0 + WAIT_S_MAX)
    (fresh,) = puts(made.handle(opened(35, context=4711), 4.0 + WAIT_S_MAX))
    assert (fresh.context, fresh.since) == (4711, 30)


def test_further_epoch_may_use_all_its_own_records_as_context():
    made = sender(context=4711)
    made.handle(Refused("his", "unknown-dictionary"), 1.0)
    assert made.flows["his"].since == 10
    second = OwnLog(replace(ORIGIN, epoch=2, tag="11111111"), 3, start=40, opening=b"statement")
    made.handle(EpochOpened("his", (OwnLog(ORIGIN, 40), second)), 1.0)
    assert made.flows["his"].origin == second.origin
    assert made.flows["his"].since == 0


def test_gateway_that_misses_a_dictionary_where_none_was_used_is_a_failure_of_the_path():
    made = sender()
    made.handle(Refused("his", "unknown-dictionary"), 1.0)
    assert not puts(made.handle(Refused("his", "unknown-dictionary"), 2.0))
    assert made.phase is Phase.CLOSED
