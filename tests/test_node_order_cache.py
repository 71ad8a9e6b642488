"""The order cache: whose row is whose, over changes, restarts, power cuts and files of before; which number finds which order."""

import json
import random
import shutil
from dataclasses import asdict, replace

import apsw
import pytest

from hl7.devices.astm_orders import KEYS_MAX, TESTS_MAX, Order
from node.clock import SystemClock
from node.orders.cache import ANSWERS_MAX, DAY_US, NAME, OrderCache
from node.orders.reader import OrderReader
from sync.outbox_destinations_view import Run

FEED = "analyzer"
NOW_US = 1_900_000_000_000_000
FORMER = (  # the tables of before rows were kept for good
    "CREATE TABLE place (stream TEXT PRIMARY KEY, next INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE wanted (id INTEGER PRIMARY KEY, sample TEXT NOT NULL UNIQUE, patient TEXT NOT NULL, at_us INTEGER NOT NULL, value TEXT NOT NULL)",
    "CREATE INDEX wanted_by_age ON wanted (at_us)",
    "CREATE TABLE name (name TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (name, id)) WITHOUT ROWID",
    "CREATE INDEX name_by_id ON name (id)",
    "CREATE TABLE given (feed TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (feed, id)) WITHOUT ROWID",
)


def order(sample, *tests, placer="", patient="T1", cancel=False):
    return Order(
        keys=tuple(filter(None, (sample, placer))), placer=placer, patient=patient, tests=tests or ("WBC",), is_cancelled=cancel
    )  # fmt: skip


@pytest.fixture
def open_cache(tmp_path):
    """Open the file as a start of the node does; the one before is closed."""
    opened, throws = [], random.Random(7)

    def open_it(now_us=NOW_US, monotonic=None):
        for each in opened:
            each.close()
        clock = now_us if callable(now_us) else lambda: now_us
        opened[:] = [OrderCache(tmp_path, clock, monotonic or (lambda: clock() / 1e6), throws.getrandbits)]
        return opened[0]

    yield open_it
    for each in opened:
        each.close()


def keep(cache, *orders, at_us=NOW_US):
    cache.keep("his", 1, [(at_us, each) for each in orders], now_us=at_us)


def row_of(cache, sample):
    ((row, _),) = cache.find_rows(sample)
    return row


def test_the_row_of_an_order_that_went_is_never_given_to_another(open_cache):
    cache = open_cache()
    keep(cache, order("S1"))
    row = row_of(cache, "S1")
    keep(cache, order("S1", cancel=True))
    keep(cache, order("S2"))
    assert cache.order(row) is None
    assert row_of(cache, "S2") > row


def test_an_order_that_changes_gets_a_greater_row_also_where_it_was_the_last_one(open_cache):
    cache = open_cache()
    keep(cache, order("S1", "WBC"))
    before = row_of(cache, "S1")
    keep(cache, order("S1", "RBC"))
    assert row_of(cache, "S1") > before
    assert cache.order(before) is None


def test_after_a_power_cut_no_row_that_was_given_out_before_it_is_another_orders(open_cache, tmp_path):
    cache = open_cache()
    keep(cache, order("S0"))
    cache.close()
    shutil.copy(tmp_path / NAME, tmp_path / "earlier")
    cache = open_cache()
    keep(cache, order("S1"), order("S2"))
    before = {row_of(cache, "S1"), row_of(cache, "S2")}
    cache.close()
    shutil.copy(tmp_path / "earlier", tmp_path / NAME)  # what the disk had of it
    cache = open_cache()  # with the clock where it stood
    keep(cache, order("S2"), order("S1"))
    assert before.isdisjoint({row_of(cache, "S1"), row_of(cache, "S2")})


def test_a_lost_file_begins_behind_every_row_that_there_was(open_cache, tmp_path):
    cache = open_cache()
    keep(cache, *(order(f"S{number}") for number in range(50)))
    last = row_of(cache, "S49")
    cache.close()
    (tmp_path / NAME).unlink()
    cache = open_cache(NOW_US + 2**33)  # two hours later
    keep(cache, order("S0"))
    assert row_of(cache, "S0") > last


def test_a_restart_leaves_every_order_its_row(open_cache):
    cache = open_cache()
    keep(cache, order("S1"), order("S2"))
    before = [row_of(cache, "S1"), row_of(cache, "S2")]
    cache = open_cache()
    assert [row_of(cache, "S1"), row_of(cache, "S2")] == before


def test_a_file_of_before_keeps_its_orders_and_what_was_given_under_new_rows(open_cache, tmp_path):
    former = apsw.Connection(str(tmp_path / NAME))
    for table in FORMER:
        former.execute(table)
    for row, sample in enumerate(("S1", "S2"), 1):
        value = json.dumps({key: each for key, each in asdict(order(sample)).items() if key in FORMER_KEYS})
        former.execute("INSERT INTO wanted VALUES (?, ?, 'T1', ?, ?)", (row, sample, NOW_US, value))
        former.execute("INSERT INTO name VALUES (?, ?)", (sample, row))
    former.execute("INSERT INTO given VALUES (?, 1)", (FEED,))
    former.close()
    cache = open_cache()
    assert cache.known == 2
    assert [each.sample for _, each in cache.waiting(FEED)] == ["S2"]
    assert min(row_of(cache, "S1"), row_of(cache, "S2")) > 2
    assert cache.order(1) is None


FORMER_KEYS = {
    "keys", "placer", "patient", "family", "given", "birth", "sex", "tests", "priority", "collected", "specimen", "is_cancelled",
}  # fmt: skip


def damage(folder, change):
    """Change what the file holds behind the cache's back."""
    other = apsw.Connection(str(folder / NAME))
    other.execute(change)
    other.close()


@pytest.mark.parametrize(
    "value",
    [
        "no order",
        "{}",
        "[]",
        '{"keys": 1, "tests": []}',
        '{"keys": ["a"], "tests": [], "more": 1}',
        '{"keys": ["a"], "tests": [], "placers": ["P"]}',
        '"a"',
    ],
)
def test_a_row_that_is_no_order_any_more_is_an_error_and_the_file_begins_anew(open_cache, tmp_path, value):
    cache = open_cache()
    keep(cache, order("S1"))
    cache.heed(cache.lives, is_behind=False)
    damage(tmp_path, f"UPDATE wanted SET value = '{value}'")
    with pytest.raises(apsw.CorruptError):
        cache.find_rows("S1")
    assert (cache.is_behind, cache.known, cache.next_place("his"), cache.find_rows("S1")) == (True, 0, 0, [])
    keep(cache, order("S1"))
    assert cache.known == 1


def test_a_file_that_could_not_begin_anew_on_a_full_disk_does_when_there_is_room(open_cache, tmp_path, monkeypatch):
    cache = open_cache()
    cache.keep("his", 7, [(NOW_US, order("S1"))], now_us=NOW_US)
    damage(tmp_path, "UPDATE wanted SET value = ''")

    def full(*_):
        raise apsw.FullError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("node.orders.cache._connect", full)
        for _ in range(2):
            with pytest.raises(apsw.FullError):
                cache.find(["S1"])
    assert cache.find(["S1"]) == []
    assert (cache.next_place("his"), cache.is_behind, cache.known) == (0, True, 0)
    cache.close()
    with pytest.raises(apsw.ConnectionClosedError):
        cache.find(["S1"])  # a node that stops does not begin it anew


def test_what_was_read_for_a_file_that_then_began_anew_does_not_make_the_new_one_complete(open_cache, tmp_path):
    cache = open_cache()
    life = cache.lives
    keep(cache, order("S1"))
    damage(tmp_path, "UPDATE wanted SET value = ''")
    with pytest.raises(apsw.CorruptError):
        cache.waiting(FEED)
    cache.heed(life, is_behind=False)
    assert cache.is_behind
    cache.heed(cache.lives, is_behind=False)
    assert not cache.is_behind


def found(cache, number):
    return sorted(each.sample for _, each in cache.find_rows(number))


def test_each_container_of_a_sample_finds_its_orders_also_those_said_later_and_those_of_a_file_of_before(
    open_cache, tmp_path
):
    cache = open_cache()
    keep(cache, replace(order("S1", "WBC"), keys=("S1", "C1"), containers=("C1",)))
    damage(tmp_path, """UPDATE wanted SET value = replace(value, '"containers": ["C1"]', '"container": "C1"')""")
    keep(cache, replace(order("S1", "RBC"), keys=("S1", "C2"), containers=("C2",)), order("S2", placer="C1"))
    assert (found(cache, "C1"), found(cache, "C2")) == (["S1"], ["S1"])
    assert cache.find_rows("C1")[0][1].tests == ("WBC", "RBC")


def test_a_samples_number_finds_no_order_of_the_patient_with_that_number(open_cache):
    cache = open_cache()
    keep(cache, order("S1", patient="1001"), order("1001", patient="T2"))
    assert found(cache, "1001") == ["1001"]
    keep(cache, order("1001", patient="T2", cancel=True))
    assert found(cache, "1001") == []
    assert cache.find(["1001"]) == []
    assert [each.sample for each in cache.find(["1001"], "1001")] == ["S1"]  # an ASTM query that names a patient alone
    keep(cache, order("1001", patient="T2"))
    assert [each.sample for each in cache.find(["1001"], "1001")] == ["1001"]


def test_a_patients_many_orders_hide_none_of_a_sample_with_the_same_number(open_cache):
    cache = open_cache()
    keep(cache, order("1001", patient="T2"))
    keep(cache, *(order(f"S{number}", patient="1001") for number in range(ANSWERS_MAX + 10)), at_us=NOW_US + 1)
    assert found(cache, "1001") == ["1001"]


def test_orders_that_came_before_the_clock_was_put_right_keep_their_age(open_cache):
    now, seconds = [NOW_US], [100.0]
    cache = open_cache(lambda: now[0], lambda: seconds[0])
    keep(cache, order("S0"), at_us=NOW_US)
    cache = open_cache(
        lambda: now[0], lambda: seconds[0]
    )  # a start with a clock that says 2030 as well, ten years too early
    keep(cache, order("S1"), at_us=NOW_US)
    now[0], seconds[0] = NOW_US + 3650 * DAY_US, 160.0
    assert (found(cache, "S0"), found(cache, "S1")) == ([], ["S1"])
    assert [each.sample for _, each in cache.waiting(FEED)] == ["S1"]
    keep(cache, order("S2"), at_us=now[0])
    now[0], seconds[0] = now[0] + 6 * DAY_US, seconds[0] + 6 * 86_400
    assert (found(cache, "S1"), found(cache, "S2")) == (["S1"], ["S2"])
    now[0], seconds[0] = now[0] + DAY_US, seconds[0] + 86_400
    assert (found(cache, "S1"), found(cache, "S2")) == ([], [])
    keep(cache, order("S3"), at_us=now[0])
    now[0] -= 3000 * DAY_US  # and back
    assert found(cache, "S3") == ["S3"]
    now[0], seconds[0] = now[0] + 8 * DAY_US, seconds[0] + 8 * 86_400
    assert found(cache, "S3") == []


def test_of_rack_place_and_sample_only_one_known_tube_is_given_orders(open_cache):
    cache = open_cache()
    keep(
        cache, order("S7"), order("1", patient="T2"), order("S9", placer="50001"),
        Order(keys=("S8", "C8"), containers=("C8",), tests=("NA",)),
    )  # fmt: skip

    def tubes(*numbers):
        return [each.sample for each in cache.find(numbers)]

    assert (tubes("2", "3", "S7", "B"), tubes("2", "C8")) == (["S7"], ["S8"])
    assert (tubes("2", "1", "S7", "B"), tubes("50001", "2", "NONE")) == ([], [])  # whose tube it is nobody knows
    assert tubes("C8", "2", "S8") == ["S8"]  # the sample's number and its container's
    assert tubes("50001") == ["S9"]  # alone it is what the analyzer read


def test_a_samples_number_is_not_taken_for_the_order_number_of_another_sample(open_cache):
    cache = open_cache()
    keep(cache, order("S1", placer="1001"))
    assert found(cache, "1001") == ["S1"]
    keep(cache, order("1001", placer="P2"))
    assert found(cache, "1001") == ["1001"]
    assert found(cache, "P2") == ["1001"]


def test_an_order_is_given_to_nobody_seven_days_after_the_last_message_about_its_sample_though_nothing_came_since(
    open_cache,
):
    now = [NOW_US]
    cache = open_cache(lambda: now[0])
    keep(cache, order("S1", "WBC"), order("S2"))
    keep(cache, order("S1", "RBC"), at_us=NOW_US + DAY_US)
    row = row_of(cache, "S1")
    now[0] = NOW_US + 7 * DAY_US
    assert (found(cache, "S1"), found(cache, "S2"), len(cache.waiting(FEED))) == (["S1"], [], 1)
    now[0] += DAY_US
    assert (found(cache, "S1"), cache.find(["S1"]), cache.waiting(FEED), cache.order(row)) == ([], [], [], None)


def test_a_sample_number_that_another_patient_has_now_carries_none_of_the_first_ones_tests(open_cache):
    cache = open_cache()
    keep(cache, order("S1", "WBC", patient="T1"))
    keep(cache, order("S1", "GLU", patient="T2"))
    ((_, kept),) = cache.find_rows("S1")
    assert (kept.patient, kept.tests) == ("T2", ("GLU",))
    keep(cache, order("S1", "GLU", patient="T1", cancel=True))  # late, and about a tube of the first one
    assert found(cache, "S1") == ["S1"]
    keep(cache, order("S1", "GLU", patient="T2", cancel=True))
    assert found(cache, "S1") == []


def test_an_order_that_names_no_patient_adds_to_the_samples_and_leaves_it_its_patient(open_cache):
    cache = open_cache()
    keep(cache, order("S1", "WBC"), order("S1", "GLU", patient=""))
    ((_, kept),) = cache.find_rows("S1")
    assert (kept.patient, kept.tests) == ("T1", ("WBC", "GLU"))


def test_a_containers_number_is_not_taken_for_the_order_number_of_another_sample(open_cache):
    cache = open_cache()
    keep(cache, order("S1", placer="1001"), Order(keys=("S2", "1001"), containers=("1001",), tests=("GLU",)))
    assert found(cache, "1001") == ["S2"]


def test_each_test_of_a_sample_keeps_its_own_orders_number_and_the_sample_all_its_numbers(open_cache):
    cache = open_cache()
    first = Order(
        keys=("S1", "C1", "P1"),
        placer="P1",
        patient="T1",
        tests=("WBC",),
        placers=("P1",),
        containers=("C1",),
        specimen="WB",
        priority="S",
    )
    keep(cache, first, order("S1", "GLU", "NA", placer="P2"))
    ((_, kept),) = cache.find_rows("C1")
    assert kept.placed == (("WBC", "P1"), ("GLU", "P2"), ("NA", "P2"))
    assert (kept.containers, kept.specimen, kept.priority, found(cache, "P1")) == (("C1",), "WB", "S", ["S1"])
    keep(cache, order("S1", "GLU", placer="P2", cancel=True))
    ((_, kept),) = cache.find_rows("C1")
    assert kept.placed == (("WBC", "P1"), ("NA", "P2"))


def test_a_sample_that_is_ordered_for_again_and_again_has_a_bounded_number_of_tests_and_numbers(open_cache):
    cache = open_cache()
    keep(cache, *(order("S1", f"T{number}", placer=f"P{number}") for number in range(KEYS_MAX + 10)))
    ((_, kept),) = cache.find_rows("S1")
    assert (len(kept.tests), len(kept.placers), len(kept.keys)) == (TESTS_MAX, TESTS_MAX, KEYS_MAX)


def test_an_order_that_is_called_off_without_its_sample_is_taken_from_wherever_it_was_placed(open_cache):
    cache = open_cache()
    keep(
        cache,
        order("S1", "WBC", placer="P1"),
        order("S1", "NA", placer="P2"),
        order("S2", "GLU", placer="P1", patient="T2"),
    )
    called_off = replace(order("P1", patient="T1", cancel=True), tests=())
    keep(cache, called_off)
    ((_, kept),) = cache.find_rows("S1")
    assert (kept.tests, found(cache, "S2")) == (("NA",), ["S2"])  # the other is another patient's
    keep(cache, order("P2", "NA", patient="", cancel=True))
    assert found(cache, "S1") == []


def test_an_order_that_is_called_off_as_a_whole_leaves_its_samples_other_orders(open_cache):
    cache = open_cache()
    keep(cache, order("S1", "WBC", placer="P1"), order("S1", "NA", placer="P2"))
    keep(cache, replace(order("S1", placer="P2", cancel=True), tests=()))
    ((_, kept),) = cache.find_rows("S1")
    assert kept.tests == ("WBC",)


def test_a_stream_that_was_set_back_is_read_again_from_its_beginning(open_cache, tmp_path):
    asked = []

    class View:
        def run(self, _):
            return Run(id=1, end=5, trimmed=0, windows=((1, 0),))

        def headers(self, _, place, count):
            asked.append((place, count))
            return []

    cache = open_cache()
    cache.keep("his", 9, [], now_us=NOW_US)
    reader = OrderReader(
        cache, store=tmp_path, streams={"his": "utf-8"}, feeds=frozenset(), clock=SystemClock(), told=lambda: None
    )
    assert not reader._step(View(), "his")
    assert (asked, cache.next_place("his")) == ([(0, 5)], 5)
    assert not reader._step(View(), "his")
    assert len(asked) == 1
