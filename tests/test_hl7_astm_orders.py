"""Orders out of OML and ORM, and as the records that answer a query."""

import time

import pytest

from hl7.devices import astm_orders
from hl7.devices.astm_orders import (
    ASKED_MAX,
    CONTAINERS_MAX,
    EVERYTHING,
    ITEMS_MAX,
    KEYS_MAX,
    NUMBERS_MAX,
    TESTS_MAX,
    Asked,
    Order,
    asked_for,
    order_records,
    read_orders,
)  # fmt: skip
from hl7.devices.astm_records import read
from hl7.text import Text


def oml(event="O21", *rows, pid="PID|1||T000007^^^TEST||تجريبية^فاطمة||19800101|F"):
    return "\r".join(
        (f"MSH|^~\\&|LIS|TEST|WASL|HUB|20300101080000||OML^{event}|M1|P|2.5.1||||||UNICODE UTF-8", pid, *rows, "")
    ).encode()


def one(*rows, event="O21"):
    (order,) = read_orders(oml(event, *rows))
    return order


def test_an_order_is_found_by_its_specimen_container_filler_and_placer():
    order = one("ORC|NW|P1", "OBR|1|P1|F1|CBC^Count^L", "SPM|1|S000007^X||WB", "SAC|||C7")
    assert (order.keys, order.containers) == (("S000007", "C7", "F1", "P1"), ("C7",))
    assert (order.patient, order.family, order.given, order.birth, order.sex) == (
        "T000007",
        "تجريبية",
        "فاطمة",
        "19800101",
        "F",
    )
    assert (order.tests, order.specimen) == (("CBC",), "WB")


@pytest.mark.parametrize("event", ["O21", "O33"])
def test_an_order_is_found_by_each_container_of_its_specimen(event):
    specimen, tests = ("SPM|1|S7||WB", "SAC|||C1", "SAC|||", *(f"SAC|||C{n}" for n in range(2, 30))), ("OBR|1|P1||CBC",)
    order = one(*((*specimen, *tests) if event == "O33" else (*tests, *specimen)), event=event)
    wanted = tuple(f"C{n}" for n in range(1, CONTAINERS_MAX + 1))
    assert (order.containers, order.keys) == (wanted, ("S7", *wanted, "P1"))


def test_the_tests_of_one_sample_are_one_order_and_other_samples_are_others():
    rows = (
        "ORC|NW|P1",
        "OBR|1|P1||WBC",
        "SPM|1|A1||WB",
        "ORC|NW|P2",
        "OBR|2|P2||RBC",
        "SPM|1|A1||WB",
        "ORC|NW|P3",
        "OBR|3|P3||GLU",
        "SPM|2|B2||SER",
    )
    assert [(order.sample, order.tests, order.placers) for order in read_orders(oml("O21", *rows))] == [
        ("A1", ("WBC", "RBC"), ("P1", "P2")),
        ("B2", ("GLU",), ("P3",)),
    ]


def test_where_the_specimen_stands_first_it_is_for_the_orders_behind_it():
    rows = ("SPM|1|A1||WB", "ORC|NW|P1", "OBR|1|P1||WBC", "SPM|2|B2||SER", "SAC|||C2", "ORC|NW|P2", "OBR|1|P2||GLU")
    assert [(order.sample, order.tests) for order in read_orders(oml("O33", *rows))] == [
        ("A1", ("WBC",)),
        ("B2", ("GLU",)),
    ]


def test_an_orm_without_specimen_is_known_by_its_order_number():
    assert one("ORC|NW|P1^LIS|F1^LIS", "OBR|1|P1^LIS|F1^LIS|GLU^Glucose|S").keys == ("F1", "P1")


@pytest.mark.parametrize("control", ["CA", "DC"])
def test_a_cancelled_order_says_so(control):
    assert one(f"ORC|{control}|P1", "OBR|1|P1||GLU", "SPM|1|A1").is_cancelled


def test_an_order_that_was_called_off_without_a_test_is_read_with_its_own_numbers():
    rows = ("SPM|1|A1||WB", "ORC|CA|P1|F1", "ORC|CA|P2", "OBR|1|P2||GLU", "ORC|NW|P3", "OBR|1|P3||NA")
    assert [(each.keys, each.tests, each.is_cancelled) for each in read_orders(oml("O33", *rows))] == [
        (("A1", "F1", "P1"), (), True), (("A1", "P2"), ("GLU",), True), (("A1", "P3"), ("NA",), False),
    ]  # fmt: skip
    assert [(each.keys, each.tests) for each in read_orders(oml("O21", "ORC|CA|P1"))] == [(("P1",), ())]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        (b"Q|1|^S7||ALL", [Asked((b"S7",))]), (b"Q|1|S7||ALL", [Asked((b"S7",))]), (b"Q|1|^S7\\^S8", [Asked((b"S7",)), Asked((b"S8",))]),
        (b"Q|1|T7^S7", [Asked((b"S7",))]), (b"Q|1|T7^", [Asked((b"T7",), b"T7")]), (b"Q|1|2^1^S7^B", [Asked((b"2", b"1", b"S7", b"B"))]),
        (b"Q|1|ALL", [EVERYTHING]), (b"Q|1|^S7||ALL||||||||A", None), (b"Q|1|^S&S&7", [Asked((b"S^7",))]), (b"Q|1", []), (b"Q|1|^", []),
        (b"Q|1|^S7\rQ|2|^S8", [Asked((b"S7",)), Asked((b"S8",))]), (b"Q|1|" + b"\\".join(b"^S%d" % n for n in range(60)), [Asked((b"S%d" % n,)) for n in range(ASKED_MAX)]),
    ],
)  # fmt: skip
def test_a_query_asks_for_what_its_third_field_names(query, wanted):
    assert asked_for(b"H|\\^&\r" + query + b"\rL|1|N\r") == wanted


@pytest.mark.parametrize(
    ("third", "wanted"),
    [
        (b"2^1^  S7^B", [Asked((b"S7",))]), (b"2^1^^B", []), (b"2^1^S7\\2^2^S8", [Asked((b"S7",)), Asked((b"S8",))]),
        (b"^S7", [Asked((b"S7",))]), (b"S7", [Asked((b"S7",))]), (b"T7^", [Asked((b"T7",), b"T7")]), (b"ALL", [EVERYTHING]),
    ],
)  # fmt: skip
def test_of_rack_place_and_sample_the_one_counts_that_the_site_names_and_a_shorter_field_is_read_as_ever(third, wanted):
    assert asked_for(b"H|\\^&\rQ|1|" + third + b"\rL|1|N\r", sample_component=3) == wanted


@pytest.mark.parametrize("mark", [b"\\", b"^", b"^\\", b"1^", b"1\\"])
def test_a_query_costs_no_more_than_its_length_and_asks_for_a_bounded_number_of_samples(mark):
    """Read field by field again for each of its parts, a quarter of a megabyte would hold up every instrument for ten minutes."""
    began = time.monotonic()
    wanted = asked_for(b"H|\\^&\rQ|1|" + mark * (2**18 // len(mark)) + b"\rL|1|N\r")
    assert time.monotonic() - began < 10
    assert wanted is not None
    assert len(wanted) <= ASKED_MAX
    assert all(len(each.samples) <= NUMBERS_MAX for each in wanted)


def test_in_an_answer_nobody_bears_anothers_name():
    """Samples of persons without a number, and of two who have the same one in two laboratories."""
    persons = [
        ("", "Doe", "John"),
        ("", "Roe", "Jane"),
        ("T7", "Doe", "John"),
        ("T7", "Roe", "Jane"),
        ("T7", "Doe", "John"),
        ("", "", ""),
        ("", "", ""),
    ]
    orders = [
        Order(keys=(f"S{n}",), patient=patient, family=family, given=given, tests=("GLU",))
        for n, (patient, family, given) in enumerate(persons)
    ]
    found, whose = [], ()
    for record in read(b"".join(order_records(orders, now=b"20300101080000"))):
        if record.letter == "P":
            whose = record.get(3), record.get(6), record.get(6, 2)
        elif record.letter == "O":
            found.append((record.get(3), whose))
    assert sorted(found) == [(b"S%d" % n, tuple(each.encode() for each in person)) for n, person in enumerate(persons)]
    assert order_records(orders[5:], now=b"")[3].startswith(b"P|2|")  # two that nobody knows are two


def test_an_answer_holds_patient_sample_and_tests():
    orders = [
        Order(
            keys=("S|7",),
            patient="T7",
            family="تجريبية",
            given="فاطمة",
            birth="19800101",
            sex="F",
            tests=("WBC", "RBC"),
            priority="S",
        )
    ]
    records = read(
        b"".join(order_records(orders, now=b"20300101080000", local=lambda code: {"WBC": "W^1"}.get(code, code)))
    )
    assert records.letters == "HPOL"
    (patient,), (order,) = records.of("P"), records.of("O")
    assert (patient.get(3), patient.get(6).decode(), patient.get(6, 2).decode()) == (b"T7", "تجريبية", "فاطمة")
    assert (order.get(3), order.components(5, 1)[3], order.get(6), order.get(12), order.get(26)) == (
        b"S|7",
        b"W^1",
        b"S",
        b"N",
        b"Q",
    )


def test_no_order_is_answered_with_no_information():
    assert b"".join(order_records([], now=b"20300101080000")).endswith(b"\rL|1|I\r")


def test_a_message_costs_no_more_than_its_length_however_tests_and_containers_stand_in_it(monkeypatch):
    reads = []

    class Counted(Text):
        def get(self, path, **how):
            reads.append(path)
            return super().get(path, **how)

    monkeypatch.setattr(astm_orders, "Text", Counted)
    rows = [*(f"OBR|{n}|P{n}||T{n}" for n in range(300)), *(f"SAC|||C{n}" for n in range(300))]
    assert one(*rows).tests == tuple(f"T{n}" for n in range(TESTS_MAX))
    assert len(reads) < 10 * len(rows)


def test_of_a_message_without_end_a_bounded_number_of_tests_and_of_numbers_is_read():
    rows = [f"ORC|NW|P{n}\rOBR|{n}|P{n}|F{n}|T{n % 5}" for n in range(ITEMS_MAX + 10)]
    order = one("SPM|1|A1", *rows, event="O33")
    assert (len(order.keys), len(order.tests)) == (KEYS_MAX, 5)
    assert len(read_orders(oml("O21", *rows))) == ITEMS_MAX


@pytest.mark.parametrize(
    "rows", [("SPM|1|+2AA-", "OBR|1|P1||T"), ("OBR|1|P1||+2AA-",), ("OBR|1|P1||T", "SPM|1|A1||+2AA-")]
)
def test_half_characters_are_no_text_and_reach_no_copy_of_the_orders(rows):
    raw = oml("O21", *rows).replace("تجريبية^فاطمة".encode(), b"").replace(b"UNICODE UTF-8", b"")
    assert read_orders(raw.replace(b"+2AA-", b"OK"), charset_default="utf-7")
    with pytest.raises(ValueError, match="surrogates"):
        read_orders(raw, charset_default="utf-7")
