"""What is left of an ASTM transfer that a stop cut off: the frames behind what the log has, and whether any of them is missing."""

import pytest

from node.feeds.astm_leftovers import leftover
from sync.outbox_frames import Frame

HEADER, RESULT, LAST = b"H|\\^&\r", b"R|1|5.4\r", b"L|1|N\r"
MESSAGE = HEADER + RESULT + LAST


def frames(*texts: bytes, at: int = 0) -> list[Frame]:
    made = []
    for text in texts:
        made.append(Frame("xn/b/1", at, "xn", "192.0.2.9", 1, text))
        at += len(text)
    return made


def test_of_a_transfer_whose_message_is_a_record_nothing_is_left_and_nothing_is_called_lost():
    # the frame that ends a message has no row of its own: killed before its rows are deleted, it is no damage
    assert leftover(frames(HEADER, RESULT), len(MESSAGE)) == (b"", True)


def test_the_frames_of_the_next_message_are_left_whole_though_the_one_before_ended_with_a_frame_that_has_no_row():
    rows = [*frames(HEADER, RESULT), *frames(HEADER, RESULT, at=len(MESSAGE))]
    assert leftover(rows, len(MESSAGE)) == (HEADER + RESULT, True)


@pytest.mark.parametrize("gone", [0, 1])
def test_a_frame_that_is_gone_behind_what_the_log_has_is_called_lost(gone):
    rows = frames(HEADER, RESULT, LAST)
    rest = rows[:gone] + rows[gone + 1 :]
    assert leftover(rest, 0)[1] is False
    assert leftover(rest, rows[gone].place + 1)[1] is False


def test_a_damaged_frame_is_called_lost_wherever_it_lies():
    first, second = frames(HEADER, RESULT)
    for rows in ([first._replace(is_good=False, text=b""), second], [first, second._replace(is_good=False, text=b"")]):
        assert leftover(rows, 0)[1] is leftover(rows, len(MESSAGE))[1] is False
