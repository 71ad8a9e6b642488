"""The sender against a real receiver: whatever the network and the power do, the centre ends with exactly the prefix, once, in order."""

from random import Random

import pytest

from sync.dictionary import CONTEXT_MARK
from sync.receiver import Refuse
from sync.record import BodyState
from sync.sender_events import Phase, Tick
from tests.sim_link import Centre, Clinic, Network
from tests.sim_realm import without_body


def link(seed: int = 1, streams=("his",)) -> tuple[Clinic, Centre, Network]:
    """A clinic and a centre on a quiet network."""
    dice = Random(seed)
    network = Network(dice)
    network.quiet = True
    centre = Centre(dice)
    return Clinic(dice, network, centre, streams), centre, network


def agree(clinic: Clinic, centre: Centre) -> None:
    """The centre holds exactly what the clinic kept, and the clinic has a receipt for all of it."""
    for name, made in clinic.kept.items():
        assert centre.logs[name].records == made
        assert clinic.receipts.get(name, (0, b""))[0] == len(made)


# --- with everything that a network and a power line can do


@pytest.mark.parametrize("seed", range(60))
def test_losses_repeats_delays_and_restarts_end_in_exactly_the_prefix(seed):
    clinic, centre, network = link(seed, ("his", "lab"))
    network.quiet, dice = False, Random(seed + 1000)
    for _ in range(dice.randrange(50, 300)):
        lot = dice.random()
        if lot < 0.15:
            clinic.accept(dice.choice(["his", "lab"]), dice.randrange(1, 8))
        elif lot < 0.2:
            clinic.restart()
        elif clinic.sender.phase is not Phase.FENCED or clinic.waiting:
            clinic.step()
    network.quiet = True
    clinic.settle()
    agree(clinic, centre)
    assert clinic.alarms == []
    assert centre.alarms == []
    assert not centre.known.held


def test_record_is_receipted_even_when_each_answer_to_the_last_batch_was_lost():
    clinic, centre, _ = link()
    clinic.accept("his", 3)
    answers = centre.put
    for _ in range(4):
        centre.put = lambda *call: answers(*call) and None  # committed, and the answer is lost
        while not clinic.calls or not clinic.calls[-1].startswith("put"):
            clinic.step()
        clinic.calls.clear()
        centre.put = answers
        assert clinic.receipts == {}
        clinic.restart()
    clinic.settle()
    agree(clinic, centre)


def test_a_start_with_everything_receipted_sends_nothing():
    clinic, _, _ = link()
    clinic.accept("his", 3)
    clinic.settle()
    clinic.restart()
    clinic.calls.clear()
    clinic.settle()
    assert clinic.calls == ["session"]


def test_lost_receipt_is_fetched_with_one_record():
    clinic, centre, _ = link()
    clinic.accept("his", 30)
    clinic.settle()
    clinic.receipts.clear()
    clinic.restart()
    clinic.calls.clear()
    clinic.settle()
    assert clinic.calls == ["session", "put 29+1"]
    agree(clinic, centre)


def test_long_cut_ends_with_a_wait_and_then_everything_arrives():
    clinic, centre, network = link()
    network.cut = True
    for n in range(200):
        clinic.accept("his", 1)
        if n % 3 == 0:
            clinic.step()
    for _ in range(200):
        clinic.step()
    assert centre.logs == {}
    network.cut = False
    clinic.settle()
    agree(clinic, centre)


# --- streams share a link, and one record holds up no other


def test_streams_take_turns():
    clinic, _, network = link(streams=("his", "lab"))
    network.cut = True
    clinic.accept("his", 600)
    clinic.accept("lab", 600)
    network.cut = False
    order: list[str] = []
    put = clinic.centre.put
    clinic.centre.put = lambda stream, *rest: (order.append(stream), put(stream, *rest))[1]
    clinic.settle()
    assert order == ["his", "lab", "his", "lab"]


def test_one_halted_stream_does_not_hold_up_another():
    clinic, centre, _ = link(streams=("his", "lab"))
    clinic.accept("his", 3)
    clinic.accept("lab", 3, message_type="ORU^R01")
    centre.poison = lambda record: record.leaf == clinic.kept["his"][1].leaf
    clinic.settle()
    assert clinic.alarms == ["SYN-29", "SYN-29"]
    assert centre.logs["lab"].records == clinic.kept["lab"]
    assert len(centre.logs["his"].records) == 1


@pytest.mark.parametrize("bad", [0, 17, 39])
def test_record_that_the_gateway_cannot_take_arrives_without_its_body_and_all_others_with_theirs(bad):
    clinic, centre, _ = link()
    centre.poison = lambda record: record.seq == bad and record.state is BodyState.PRESENT
    clinic.accept("his", 40)
    clinic.settle()
    held = centre.logs["his"].records
    assert [record.leaf for record in held] == [record.leaf for record in clinic.kept["his"]]
    assert [record.seq for record in held if record.state is not BodyState.PRESENT] == [bad]
    assert clinic.alarms == ["SYN-29"]
    assert clinic.receipts["his"][0] == 40


def test_full_batches_follow_a_poisoned_record_again():
    clinic, centre, _ = link()
    centre.poison = lambda record: record.seq == 3 and record.state is BodyState.PRESENT
    clinic.accept("his", 300)
    clinic.settle()
    assert clinic.calls[-1] == "put 4+296"


# --- what the centre holds is the context of the next batch


def test_batches_after_the_first_are_read_with_what_the_centre_holds():
    clinic, centre, _ = link()
    for _ in range(5):
        clinic.accept("his", 3)
        clinic.settle()
    agree(clinic, centre)
    assert centre.recalled == 4


@pytest.mark.parametrize("state", [BodyState.ERASED, BodyState.TRIMMED, BodyState.LEAF_ONLY])
def test_body_that_the_centre_has_no_more_costs_one_call_and_the_records_after_it_are_context_again(state):
    clinic, centre, _ = link()
    clinic.accept("his", 10)
    clinic.settle()
    held = centre.logs["his"].records
    held[8] = without_body(held[8], state)
    clinic.calls.clear()
    for _ in range(3):
        clinic.accept("his", 2)
        clinic.settle()
    assert clinic.calls == ["put 10+2", "put 10+2", "put 12+2", "put 14+2"]
    assert [record.leaf for record in held] == [record.leaf for record in clinic.kept["his"]]
    assert clinic.alarms == []
    assert centre.recalled == 2


def test_centre_that_was_set_back_gets_the_rest_without_context_from_where_it_is_wrong():
    clinic, centre, _ = link()
    for _ in range(4):
        clinic.accept("his", 3)
        clinic.settle()
    centre.restored({"his": 5})
    clinic.accept("his", 1)
    clinic.settle()
    assert centre.logs["his"].records == clinic.kept["his"]
    assert clinic.alarms == ["SYN-25"]


def test_centre_that_can_do_nothing_with_contexts_is_sent_none_after_three_until_the_next_session():
    clinic, centre, _ = link()
    clinic.accept("his", 1)
    clinic.settle()
    centre._recall = lambda *_: b"something else"
    clinic.calls.clear()
    for _ in range(6):
        clinic.accept("his", 1)
        clinic.settle()
    assert clinic.calls == [f"put {n}+1" for n in (1, 1, 2, 2, 3, 3, 4, 5, 6)]
    agree(clinic, centre)
    assert clinic.alarms == []


def test_centre_that_calls_a_context_a_bad_batch_gets_every_body():
    clinic, centre, _ = link()
    clinic.accept("his", 1)
    clinic.settle()
    take = centre.put

    def older(stream, epoch, first, fence, data):
        return (
            Refuse(422, "bad-batch", "") if data.startswith(CONTEXT_MARK) else take(stream, epoch, first, fence, data)
        )

    centre.put = older
    clinic.calls.clear()
    for _ in range(3):
        clinic.accept("his", 2)
        clinic.settle()
    assert clinic.calls == ["put 1+2", "put 1+2", "put 3+2", "put 5+2"]
    agree(clinic, centre)
    assert clinic.alarms == []


def test_stream_begins_a_further_epoch_without_context_and_goes_on_with_it():
    clinic, centre, _ = link()
    clinic.accept("his", 30)
    clinic.settle()
    clinic.restored({"his": 20})
    clinic.calls.clear()
    for _ in range(3):
        clinic.accept("his", 2)  # the first two are the same as before: the centre has them
        clinic.settle()
    assert clinic.calls == ["session", "epoch 2", "put 0+2", "put 2+2"]
    assert centre.recalled == 1


# --- restored, copied


def at_the_centre(centre: Centre, stream: str = "his") -> list[bytes]:
    """The leaves that the centre holds, in the order of the epochs."""
    return [record.leaf for log in centre.all_logs(stream) for record in log.records]


@pytest.mark.parametrize("backup", [0, 1, 17, 29, 30])
@pytest.mark.parametrize("fresh", [0, 1, 12])
def test_restored_node_loses_nothing_sends_nothing_twice_and_is_held(backup, fresh):
    clinic, centre, _ = link()
    clinic.accept("his", 30)
    clinic.settle()
    before = at_the_centre(centre)
    clinic.restored({"his": backup})
    clinic.dice.random()
    clinic.accept("his", fresh, message_type="ADT^A08")
    clinic.settle()
    if backup + fresh < 30 or fresh:
        assert at_the_centre(centre) == before + [record.leaf for record in clinic.kept["his"][backup:]]
    if backup < 30:
        assert clinic.alarms[0] in {"SYN-20", "SYN-21"}
        assert [log.head.origin.epoch for log in centre.all_logs("his")] == [1, 2]
        assert centre.known.held
        assert "GWY-17" in centre.alarms


def test_node_restored_twice_to_the_same_backup_sends_what_it_had_carried_only_once():
    clinic, centre, _ = link()
    clinic.accept("his", 10)
    clinic.settle()
    clinic.network.cut = True
    clinic.accept("his", 5)
    backup = [*clinic.kept["his"]]
    clinic.network.cut = False
    centre.restored({"his": 8})
    clinic.settle()
    clinic.kept["his"] = backup[:12]
    clinic.restart()
    clinic.accept("his", 4, message_type="ADT^A08")
    clinic.settle()
    leaves = at_the_centre(centre)
    assert len(set(leaves)) == len(leaves)
    assert {record.leaf for record in clinic.kept["his"]} <= set(leaves)


def test_second_copy_is_held_and_the_first_is_fenced_and_does_not_fight_back():
    clinic, centre, network = link()
    clinic.accept("his", 3)
    clinic.settle()
    copy = Clinic(Random(9), network, centre)
    copy.tag, copy.boots, copy.fence, copy.ledger = clinic.tag, list(clinic.boots), clinic.fence, clinic.ledger
    copy.kept, copy.logs = {"his": list(clinic.kept["his"])}, {"his": list(clinic.logs["his"])}
    copy.receipts = dict(clinic.receipts)
    clinic.restart()
    clinic.settle()
    clinic.accept("his", 1)
    clinic.settle()
    copy.restart()
    copy.settle()
    assert "SYN-23" in copy.alarms
    assert centre.alarms == ["GWY-10", "GWY-17"]
    assert centre.known.held
    clinic.accept("his", 1)
    clinic.settle()
    assert clinic.sender.phase is Phase.FENCED
    assert clinic.alarms == ["SYN-27"]
    assert clinic.sender.handle(Tick(), 1e9) == []


def test_node_restored_from_a_backup_never_sends_another_record_at_a_position_that_the_centre_holds():
    clinic, centre, _ = link()
    clinic.accept("his", 5)
    clinic.settle()
    backup = (list(clinic.kept["his"]), dict(clinic.receipts), list(clinic.boots), clinic.fence)
    clinic.accept("his", 5)
    clinic.settle()
    first = list(centre.logs["his"].records)
    clinic.kept["his"], clinic.receipts, clinic.boots, clinic.fence = backup
    clinic.calls.clear()
    clinic.restart()
    clinic.accept("his", 9, message_type="ADT^A08")
    clinic.settle()
    assert clinic.alarms[0] in {"SYN-20", "SYN-23"}
    assert [call for call in clinic.calls if call != "session"] == ["epoch 2", "put 0+9"]
    assert centre.all_logs("his")[0].records == first
    assert [record.leaf for record in centre.logs["his"].records] == [record.leaf for record in clinic.kept["his"][5:]]


def test_gateway_restored_from_a_backup_gets_everything_again():
    clinic, centre, _ = link()
    clinic.accept("his", 12)
    clinic.settle()
    centre.restored({"his": 5})
    clinic.restart()
    clinic.settle()
    assert clinic.alarms == ["SYN-25"]
    assert centre.logs["his"].records == clinic.kept["his"]
