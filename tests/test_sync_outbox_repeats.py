"""Repeats at the outbox: what is the same message, what is not, and for how long that is known."""

from contextlib import closing

import pytest

from sync.errors import NoRoom
from sync.header import common_start
from sync.outbox_arrivals import repeat_key
from sync.recent import STRIDE
from sync.record import Kind
from tests.outbox_rig import FAR, KEY, LEDGER, outbox, receipted, some, stored
from tests.sim_disk import disk
from tests.sim_realm import STREAM, draft


@pytest.fixture
def box(tmp_path):
    with closing(outbox(tmp_path)) as made:
        yield made


def test_empty_control_id_never_repeats():
    assert repeat_key("his", "") == b""
    assert repeat_key("his", "C1") != repeat_key("hisC", "1")


def test_repeat_gets_the_first_ones_position_and_stores_nothing(box):
    (first,) = box.append([draft(0, repeat_key=KEY)])
    (again,) = box.append([draft(0, repeat_key=KEY, received_us=5)])
    assert again == first._replace(repeated=True)
    assert len(stored(box)) == 1


def test_repeat_within_one_group_is_found_too(box):
    box.append([draft(9)])
    group = [draft(0, repeat_key=KEY), draft(1), draft(0, repeat_key=KEY), draft(0, repeat_key=KEY)]
    assert [(each.seq, each.repeated) for each in box.append(group)] == [
        (1, False),
        (2, False),
        (1, True),
        (1, True),
    ]


def test_repeat_is_known_after_a_restart(tmp_path):
    key = repeat_key("his", "C00000")  # as the particulars of draft(0) say
    with closing(outbox(tmp_path)) as made:
        (first,) = made.append([draft(0, repeat_key=key)])
    with closing(outbox(tmp_path)) as made:
        assert made.append([draft(0, repeat_key=key)]) == [first._replace(repeated=True)]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"body": b"MSH|other"}, id="other bytes"),
        pytest.param({"verdict": 2}, id="another verdict"),
        pytest.param({"repeat_key": repeat_key("his", "C2")}, id="another control id"),
        pytest.param({"repeat_key": repeat_key("lab", "C1")}, id="another feed"),
        pytest.param({"repeat_key": b""}, id="no control id"),
        pytest.param(
            {
                "common": common_start(
                    kind=Kind.INCOMPLETE, facility="rawdah", feed="his", content_type="application/hl7-v2+er7"
                )
            },
            id="another kind",
        ),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_what_is_not_the_same_message_is_stored(box, changes, together):
    one, two = draft(0, repeat_key=KEY), draft(0, repeat_key=KEY)._replace(**changes)
    found = box.append([one, two]) if together else box.append([one]) + box.append([two])
    assert [(each.seq, each.repeated) for each in found] == [(0, False), (1, False)]


@pytest.mark.parametrize("again", ["at once", "after a restart"])
def test_repeat_of_a_message_whose_body_was_trimmed_is_known_and_another_body_under_its_id_is_not(tmp_path, again):
    key = repeat_key("his", "C00000")  # as the particulars of draft(0) say
    with closing(outbox(tmp_path)) as made:
        (first,) = made.append([draft(0, repeat_key=key)])
        receipted(made, 1)
        assert made.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == 1
        found = made.append([draft(0, repeat_key=key)]) if again == "at once" else []
    with closing(outbox(tmp_path)) as made:
        found += made.append([draft(0, repeat_key=key)])
        assert set(found) == {first._replace(repeated=True)}
        (other,) = made.append([draft(0, repeat_key=key, body=b"MSH|other")])
        assert (other.seq, other.repeated) == (1, False)


def test_trimming_keeps_no_body_and_no_more_arrivals_than_are_remembered(tmp_path):
    with closing(outbox(tmp_path, recent_max=4)) as made:
        for first in (0, 6):
            made.append(some(first, 6))
            receipted(made, first + 6)
            assert made.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == 6
        kept = made._connection.execute("SELECT id FROM arrival").fetchall()
        assert kept == [(row,) for row in range(9, 13)]
        assert made._connection.execute("SELECT count(*) FROM body").get == 0


@pytest.mark.parametrize(
    "damage",
    ["DELETE FROM arrival", "UPDATE arrival SET salt = zeroblob(16)", "UPDATE arrival SET particulars = x'ff'"],
)
def test_repeat_of_a_trimmed_message_is_stored_again_where_nothing_proves_it_any_more(box, damage):
    box.append([draft(0, repeat_key=KEY)])
    receipted(box, 1)
    assert box.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == 1
    box._connection.execute(damage)
    (again,) = box.append([draft(0, repeat_key=KEY)])
    assert (again.seq, again.repeated) == (1, False)


def test_damaged_record_is_no_proof_that_a_message_is_stored(box):
    box.append([draft(0, repeat_key=KEY)])
    box._connection.execute("UPDATE header SET header = x'ff' WHERE seq = 0")
    (again,) = box.append([draft(0, repeat_key=KEY)])
    assert (again.seq, again.repeated) == (1, False)


def test_only_so_many_arrivals_are_remembered(tmp_path):
    with closing(outbox(tmp_path, recent_max=3)) as made:
        made.append([draft(n, repeat_key=b"k%d" % n) for n in range(600)])
        assert 3 <= len(made._recent) <= 3 + STRIDE
        found = made.append([draft(n, repeat_key=b"k%d" % n) for n in (599, 0)])
        assert [each.repeated for each in found] == [True, False]


def test_group_of_repeats_alone_writes_nothing(tmp_path):
    with disk() as platter, closing(outbox(tmp_path, vfs=platter.name)) as made:
        made.append([draft(0, repeat_key=KEY)])
        platter.arm()
        made.append([draft(0, repeat_key=KEY)])
        assert platter.calls == []


def test_repeat_of_a_group_that_was_refused_is_no_repeat(tmp_path):
    with closing(outbox(tmp_path, quota_bytes=300_000)) as made:
        with pytest.raises(NoRoom):
            made.append([draft(0, repeat_key=KEY), draft(1, body=bytes(500_000))])
        assert [each.repeated for each in made.append([draft(0, repeat_key=KEY)])] == [False]
