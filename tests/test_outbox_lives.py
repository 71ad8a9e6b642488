"""A slice of the campaign of an outbox's lives, and that it would notice. `make sim` lives two thousand."""

from dataclasses import replace
from random import SystemRandom

import pytest

import sync.group
from sync.store import OutboxTable
from tests.sim_outbox import Violation, live

LIVES = 4
FOUND_FROM = {"what an epoch carries is looked at as its last group": 1047}  # else from life 0 on


def test_in_any_life_each_record_is_found_once_at_its_place_with_its_bytes():
    first = SystemRandom().randrange(2**32)
    for seed in range(first, first + LIVES):
        try:
            live(seed, steps=40)
        except Violation as violation:
            pytest.fail(str(violation))


FAULTS = {
    "a cursor is remembered that an epoch has cut": ("sync.outbox_cursors.Cursors.forget", lambda _self: None),
    "a range begins where its segment does": (
        "sync.store.OutboxTable._AT_PLACES",
        OutboxTable._AT_PLACES.replace("header.id >= max(first, ?2)", "header.id >= first"),
    ),
    "a message alone begins no segment": (
        "sync.group._TRIGGER_OF_ONE",
        sync.group._TRIGGER_OF_ONE.replace("WHERE NEW.row", "WHERE NEW.place = 0 AND NEW.row"),
    ),
    "what an epoch carries is looked at as its last group": (
        "sync.outbox_epochs.replace",
        lambda head, **more: replace(head, **{**more, "group_first": 0}),
    ),
}


@pytest.mark.parametrize("what", FAULTS)
def test_the_campaign_finds_it_when(monkeypatch, what):
    place, broken = FAULTS[what]
    monkeypatch.setattr(place, broken)
    with pytest.raises(Violation):
        for seed in range(first := FOUND_FROM.get(what, 0), first + LIVES):
            live(seed)
