"""The doorway: what of a message goes into the permanent header, what into the erasable part, and how refusals are bounded."""

import cbor2
import pytest

from node.alarms import Alarms
from node.clock import SYNCHRONISED, Trust
from node.errors import QueueFull
from node.intake import HOUR_S, Counted, Intake, Refusal, make_door
from sync.errors import NoRoom
from sync.header import CONTROL_ID, COUNT, FRAME_BYTES, FRAME_SHA256, PEER, REFUSAL, decode_particulars, seal
from sync.outbox import Stored
from sync.record import Kind, Verdict

CONTENT_TYPE = "application/hl7-v2+er7"


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self):
        self.us, self.seconds = 1_900_000_000_000_000, 100.0

    def now_us(self):
        return self.us

    def monotonic(self):
        return self.seconds

    def trust(self):
        return Trust(SYNCHRONISED, 1234)


class Writer:
    """Takes drafts while `has_place`; `settle` answers them all."""

    def __init__(self):
        self.taken, self.has_place = [], True

    def submit(self, draft, done):
        if self.has_place:
            self.taken.append((draft, done))
        return self.has_place

    def settle(self, outcome=None):
        for n, (_, done) in enumerate(self.taken):
            done(outcome or Stored("his", 1, n, False))

    @property
    def drafts(self):
        return [draft for draft, _ in self.taken]


class Rig:
    """A doorway with a writer and a clock of its own."""

    def __init__(self, rejected_per_hour_max=1000):
        self.clock, self.writer = Clock(), Writer()
        self.alarms = Alarms(self.clock.now_us)
        self.intake = Intake(clock=self.clock, writer=self.writer, alarms=self.alarms)
        self.door = make_door(
            facility="BH-TEST-1", feed="his", stream="his", content_type=CONTENT_TYPE, rejected_per_hour_max=rejected_per_hour_max
        )  # fmt: skip
        self.answers = []

    def store(self, body=b"MSH|", *, control_id="C-1", verdict=Verdict.ACCEPTED, refusal=None):
        self.intake.store(
            self.door, body=body, message_type="ADT^A01", control_id=control_id, peer="127.0.0.1", verdict=verdict, refusal=refusal,
            answer=self.answers.append,
        )  # fmt: skip

    def reject(self, control_id="C-1"):
        self.store(control_id=control_id, verdict=Verdict.REJECTED, refusal=Refusal(code="HL7-04", location="MSH^1^3"))

    def standing(self):
        return {(alarm["code"], alarm["subject"]) for alarm in self.alarms.standing()}


@pytest.fixture
def rig():
    return Rig()


def test_the_permanent_header_holds_no_control_id_peer_or_content(rig):
    rig.store("MSH|سلمى".encode(), control_id="ID-OF-SALMA")
    (draft,) = rig.writer.drafts
    (header,), *_ = seal(0, b"", [draft], bytes(16))
    for secret in (b"ID-OF-SALMA", b"127.0.0.1", "سلمى".encode()):
        assert secret not in header
    assert decode_particulars(draft.particulars) == {CONTROL_ID: "ID-OF-SALMA", PEER: "127.0.0.1"}
    assert draft.body == "MSH|سلمى".encode()


def test_a_draft_says_when_it_came_and_how_far_the_clock_can_be_trusted(rig):
    rig.store()
    (draft,) = rig.writer.drafts
    assert (draft.received_us, draft.clock_state, draft.clock_error_us) == (rig.clock.us, SYNCHRONISED, 1234)


def test_a_door_that_can_wait_takes_nothing_while_the_disk_fills_and_others_take_all(rig):
    filling = Intake(clock=rig.clock, writer=rig.writer, alarms=rig.alarms, is_filling=lambda: True)
    rig.intake = filling
    rig.store()
    rig.door.can_wait = True
    rig.store(control_id="C-2")
    assert [type(answer).__name__ for answer in rig.answers] == ["FeedPaused"]
    assert len(rig.writer.drafts) == 1
    assert (rig.door.counts.refused, rig.door.counts.last_error) == (1, ("NOD-34", rig.clock.us))
    assert ("NOD-10", "") not in rig.standing()


def test_a_refusal_stands_in_the_particulars_with_code_and_place(rig):
    rig.reject()
    (draft,) = rig.writer.drafts
    assert decode_particulars(draft.particulars)[REFUSAL] == ["HL7-04", "MSH^1^3"]
    assert draft.verdict == Verdict.REJECTED


def test_an_incomplete_frame_keeps_length_and_hash_and_never_repeats(rig):
    for _ in range(2):
        rig.intake.store_broken(
            rig.door, head=b"MSH|half", length=99, sha256=bytes(32), control_id="C-1", peer="::1", code="MLP-01", answer=rig.answers.append
        )  # fmt: skip
    first, second = rig.writer.drafts
    found = decode_particulars(first.particulars)
    assert (found[FRAME_BYTES], found[FRAME_SHA256], found[REFUSAL]) == (99, bytes(32), ["MLP-01", ""])
    assert cbor2.loads(first.common)[2] == Kind.INCOMPLETE
    assert (first.repeat_key, second.repeat_key) == (b"", b"")


def test_an_empty_control_id_has_no_repeat_key_and_a_long_one_a_bounded_one(rig):
    rig.store(control_id="")
    rig.store(control_id="ط" * 100_000)
    empty, long = rig.writer.drafts
    assert empty.repeat_key == b""
    assert len(long.repeat_key) < 2048
    assert len(long.particulars) < 4096


def test_nobody_is_answered_before_the_writer_says_so(rig):
    rig.store()
    assert rig.answers == []
    rig.writer.settle()
    assert rig.answers == [Stored("his", 1, 0, False)]


def test_a_full_queue_is_answered_at_once_and_counted_as_refused(rig):
    rig.writer.has_place = False
    rig.store()
    assert [type(answer) for answer in rig.answers] == [QueueFull]
    assert (rig.door.counts.refused, rig.door.counts.accepted) == (1, 0)
    assert rig.door.counts.last_error[0] == "NOD-01"


def test_no_room_is_answered_and_raises_the_alarm(rig):
    rig.store()
    rig.writer.settle(NoRoom("full"))
    assert [type(answer) for answer in rig.answers] == [NoRoom]
    assert rig.door.counts.refused == 1
    assert rig.standing() == {("NOD-10", "")}


def test_refusals_beyond_the_quota_are_answered_without_a_record_and_counted(rig):
    rig.door.rejected_per_hour_max = 2
    for n in range(5):
        rig.reject(f"C-{n}")
    assert len(rig.writer.taken) == 2
    assert rig.answers == [Counted()] * 3
    rig.writer.settle()
    assert rig.door.counts.rejected == 5
    assert rig.standing() == {("NOD-11", "his")}


def test_the_alarm_of_too_many_refusals_ends_with_the_hour_though_none_comes_any_more(rig):
    rig.door.rejected_per_hour_max = 0
    rig.reject()
    rig.clock.seconds += HOUR_S - 1
    rig.intake.summarise(rig.door)
    assert rig.standing() == {("NOD-11", "his")}
    rig.clock.seconds += 1
    rig.intake.summarise(rig.door)
    assert rig.standing() == set()


def test_the_summary_says_how_many_were_not_recorded_and_is_written_once(rig):
    rig.door.rejected_per_hour_max = 1
    for n in range(4):
        rig.reject(f"C-{n}")
    rig.intake.summarise(rig.door)
    rig.intake.summarise(rig.door)
    assert len(rig.writer.taken) == 2
    found = decode_particulars(rig.writer.drafts[-1].particulars)
    assert (found[COUNT], found[REFUSAL]) == (3, ["NOD-11", ""])


def test_a_summary_that_was_not_stored_is_written_again(rig):
    rig.door.rejected_per_hour_max = 0
    rig.reject()
    rig.reject()
    rig.intake.summarise(rig.door)
    rig.writer.settle(NoRoom("full"))
    rig.writer.taken.clear()
    rig.reject()
    rig.intake.summarise(rig.door)
    assert decode_particulars(rig.writer.drafts[-1].particulars)[COUNT] == 3


def test_an_hour_later_refusals_are_recorded_again_whatever_the_wall_clock_says(rig):
    rig.door.rejected_per_hour_max = 1
    rig.reject("C-1")
    rig.reject("C-2")
    rig.clock.us -= 10**15  # a clock set back by thirty years
    rig.clock.seconds += 3599
    rig.reject("C-3")
    assert len(rig.writer.taken) == 1
    rig.clock.seconds += 1
    rig.reject("C-4")
    assert len(rig.writer.taken) == 2
    assert rig.standing() == set()


def test_good_messages_never_count_against_the_quota_of_refusals(rig):
    rig.door.rejected_per_hour_max = 1
    rig.reject()
    rig.reject()
    for n in range(50):
        rig.store(control_id=f"G-{n}")
        rig.store(control_id=f"W-{n}", verdict=Verdict.ACCEPTED_WITH_WARNING, refusal=Refusal(code="HL7-01"))
    assert len(rig.writer.taken) == 101


def test_a_repeat_is_counted_and_answered_as_what_it_repeats(rig):
    rig.store()
    rig.writer.settle(Stored("his", 1, 7, True))
    assert rig.answers == [Stored("his", 1, 7, True)]
    assert rig.door.counts.repeated == 1


@pytest.mark.parametrize("outcome", [NoRoom("full"), Stored("his", 1, 0, True)], ids=["refused", "repeated"])
def test_what_became_no_record_is_not_counted_as_accepted(rig, outcome):
    rig.store()
    rig.writer.settle(outcome)
    assert rig.door.counts.accepted == 0
