"""When a sender tries again, and when an idle one asks for a session."""

from sync.flow import QUANTUM_BYTES_MAX
from sync.pace import WAIT_S_MAX, WAIT_S_MIN, Backoff
from sync.sender import SESSION_S_MAX
from sync.sender_events import (
    Alarm,
    AskSession,
    Grew,
    PathFailed,
    Put,
    Refused,
    Retry,
    Tick,
    Wait,
)
from tests.sender_rig import alarms, opened, puts, sender
from tests.sim_realm import ORIGIN


def test_waits_double_to_a_minute_and_start_anew_after_success():
    backoff = Backoff(lambda: 1.0)
    assert [backoff.failed() for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 32, WAIT_S_MAX, WAIT_S_MAX]
    backoff.succeeded()
    assert (backoff.failures, backoff.failed()) == (0, WAIT_S_MIN)


def test_thousand_failures_neither_overflow_nor_shorten_the_wait():
    backoff = Backoff(lambda: 0.0)
    waits = [backoff.failed() for _ in range(1000)]
    assert min(waits[10:]) == max(waits[10:]) == WAIT_S_MAX / 2


def test_mended_path_is_tried_at_once_and_the_waits_go_on_from_where_they_were():
    made = sender()
    for _ in range(9):
        *_, wait = made.handle(PathFailed("x"), 0.0)
        made.handle(Tick(), wait.seconds)
    assert made.handle(PathFailed("x"), 0.0) == [wait]
    assert made.handle(Retry(), 1.0) == [AskSession()]
    assert made.handle(PathFailed("x"), 1.0) == [wait]


def test_idle_node_asks_for_a_session_after_a_quarter_of_an_hour_and_hears_what_became_of_the_gateway():
    made = sender(theirs=40)
    assert made.handle(Tick(), SESSION_S_MAX - 1) == [Wait(1.0)]
    assert made.handle(Tick(), SESSION_S_MAX) == [AskSession()]
    effects = made.handle(opened(12), SESSION_S_MAX)  # it was set back meanwhile
    assert alarms(effects) == ["SYN-25"]
    assert puts(effects)[0].first == 12


def test_idle_node_whose_copy_was_admitted_says_so_and_one_whose_line_is_dead_tries_it_as_ever():
    copied, cut = sender(theirs=40), sender(theirs=40)
    assert copied.handle(Tick(), SESSION_S_MAX) == cut.handle(Tick(), SESSION_S_MAX) == [AskSession()]
    assert copied.handle(Refused("", "fenced"), SESSION_S_MAX) == [Alarm("SYN-27")]
    *_, wait = cut.handle(PathFailed("x"), SESSION_S_MAX)
    assert cut.handle(Tick(), SESSION_S_MAX + wait.seconds) == [AskSession()]


def test_node_with_something_to_send_sends_it_before_it_asks_for_a_session():
    made = sender(theirs=40)
    assert made.handle(Grew(ORIGIN, 41), 2 * SESSION_S_MAX)[0] == Put(ORIGIN, 40, 1, QUANTUM_BYTES_MAX, False)
