"""Packet identifiers of MQTT are used up and begin again at 1: behind the last of 65,535 nothing is taken for another, and nothing is forgotten."""

from hypothesis import given, settings
from hypothesis import strategies as st

from node.feeds.mqtt_slots import Fate, Slots
from node.feeds.unsettled import Unsettled
from tests import test_mqtt_repeats as repeats
from tests.test_mqtt_repeats import MIDS

READING = b"97      "


def test_behind_the_last_identifier_each_is_used_again_and_an_equal_reading_is_no_repeat():
    names, slots, stored, acknowledged = Unsettled("f", boot="ab" * 16), Slots(), set(), []
    mids = [1 + n % MIDS for n in range(2 * MIDS + 10)]
    for mid in mids:
        named = names.name(mid, READING, is_dup=False)
        assert not named.is_doubtful
        stored.add(named.text)
        slots.settled(slots.arrived(mid, 1), Fate.STORED, 0.0)
        acknowledged += slots.due()
    assert len(stored) == len(mids)
    assert acknowledged == mids[:-1]  # the newest is held


@settings(max_examples=100)
@given(st.integers(0, 2**32), st.sampled_from([1, 2, 3, 8]), st.integers(0, 12), st.booleans())
def test_kills_while_the_identifiers_begin_again_lose_no_reading_and_double_none_unmarked(seed, limit, before, equal):
    class AtItsEnd(repeats.ModelBroker):
        def __init__(self, *given):
            super().__init__(*given)
            self._mid = MIDS - before

    kept, repeats.ModelBroker = repeats.ModelBroker, AtItsEnd
    try:
        node, count = repeats.run("counts up", seed, limit=limit, equal=equal)
    finally:
        repeats.ModelBroker = kept
    assert {which for which, _ in node.records} == set(range(count)), "a reading is lost"
    assert all(which == of for which, of in node.dropped), "a reading was taken for another"
    seen = set()
    for which, is_marked in node.records:
        assert which not in seen or is_marked, "a reading is doubled, and not marked"
        seen.add(which)


def test_what_comes_again_after_a_kill_behind_the_last_identifier_is_known():
    names, facts = Unsettled("f", boot="ab" * 16), {}
    last, first = (names.name(mid, READING, is_dup=False) for mid in (MIDS, 1))
    facts.update([last.fact, first.fact])
    after = Unsettled("f", boot="cd" * 16)
    after.load(facts)
    after.resume()
    assert [after.name(mid, READING, is_dup=True).text for mid in (MIDS, 1)] == [last.text, first.text]
