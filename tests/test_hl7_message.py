"""The view: every field is where HL7 says, in bytes of the original, and no input makes it raise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7 import message
from hl7.errors import NotEr7
from hl7.message import HEADER_BYTES_MAX, Facts, Message, Path, Route, facts, header
from hl7.separators import read_separators
from native import er7_index, er7_read

ORU = (
    "MSH|^~\\&|LAB|CLINIC 7^1.2.3^ISO|HIS|MOH|20260101120000+0400||ORU^R01^ORU_R01|W0001|P^T|2.5.1|7||AL|NE||UNICODE UTF-8\r"
    "PID|1||700001^^^SITE&1.2&ISO^MR~784-0000-0000001-1^^^GOV||اختبار^مريم&Maryam^\r"
    "OBX|1|NM|2345-7^Glucose^LN||5.4|mmol/L\r"
    'OBX|2|ST|X^Note^L||""|\r'
    "ZLB|alpha|beta^gamma\r"
).encode()

separator = st.sampled_from(b"|$#@*!%")
hostile = st.lists(
    st.sampled_from([b"MSH", b"FHS", b"BHS", b"PID", b"|", b"^", b"~", b"\\", b"&", b"\r", b"\n", b"\r\n", b"1", b"\0"])
    | st.binary(max_size=4),
    max_size=40,
).map(b"".join)


def read(path):
    return Message(ORU).get(path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("MSH-0", b"MSH"),
        ("MSH-1", b"|"),
        ("MSH-1.1", b"|"),
        ("MSH-2", b"^~\\&"),
        ("MSH-2[3].4.5", b"^~\\&"),
        ("MSH-3", b"LAB"),
        ("MSH-4", b"CLINIC 7^1.2.3^ISO"),
        ("MSH-4.2", b"1.2.3"),
        ("MSH-9.3", b"ORU_R01"),
        ("MSH-18", b"UNICODE UTF-8"),
        ("MSH-19", None),
        ("MSH[2]-1", None),
        ("FHS-1", None),
        ("PID-1", b"1"),
        ("PID-2", b""),
        ("PID-3", b"700001^^^SITE&1.2&ISO^MR~784-0000-0000001-1^^^GOV"),
        ("PID-3.1", b"700001"),
        ("PID-3[1].4.3", b"ISO"),
        ("PID-3[2].1", b"784-0000-0000001-1"),
        ("PID-3[2].4.1", b"GOV"),
        ("PID-3[2].4.2", None),
        ("PID-3[3]", None),
        ("PID-5.2", "مريم&Maryam".encode()),
        ("PID-5.2.1", "مريم".encode()),
        ("PID-5.3", b""),
        ("PID-5.4", None),
        ("OBX-5", b"5.4"),
        ("OBX[2]-5", b'""'),
        ("OBX[2]-6", b""),
        ("OBX[3]-5", None),
        ("ZLB-2.2", b"gamma"),
        ("NTE-1", None),
    ],
)
def test_a_path_names_the_bytes_that_hl7_says(path, value):
    assert read(path) == value
    span = Message(ORU).span(path)
    assert (None if span is None else ORU[slice(*span)]) == value


@pytest.mark.parametrize(
    "text",
    ["", "PID", "PID-", "PI-3", "PID-3[0]", "PID-3.0", "pid-3", "PID-3.1.1.1", "PID[0]-3", "PID-3\n", "PID-99999"],
)
def test_a_path_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="not a path"):
        Path.parse(text)


def test_a_path_with_negative_numbers_is_refused():
    with pytest.raises(ValueError, match="counts from 1"):
        Path(segment=b"PID", occurrence=0, field=3)


def test_separators_of_a_batch_header_count_as_those_of_msh():
    batch = Message(b"FHS|^~\\&|LAB\rBHS|^~\\&|UNIT\r" + ORU + b"BTS|1\rFTS|1\r")
    assert batch.read(["FHS-1", "FHS-2", "FHS-3", "BHS-2", "BHS-3", "MSH-10"]) == [
        *(b"|", b"^~\\&", b"LAB", b"^~\\&", b"UNIT", b"W0001"),
    ]


@pytest.mark.parametrize("terminator", [b"\r", b"\n", b"\r\n"])
@pytest.mark.parametrize("lead", [b"", b"\n", b"\r\n \r\n", b"\xef\xbb\xbf"])
def test_terminators_and_leading_blank_lines_change_no_field(terminator, lead):
    raw = lead + ORU.replace(b"\r", terminator)
    message = Message(raw)
    assert message.get("MSH-10") == b"W0001"
    assert message.get("ZLB-2.2") == b"gamma"
    assert message.count == 5
    assert [name for name, _ in message.segments()] == [b"MSH", b"PID", b"OBX", b"OBX", b"ZLB"]
    assert [raw[slice(*span)] for _, span in message.segments()] == ORU.split(b"\r")[:-1]
    span = message.span("PID-3.1")
    assert span is not None
    assert raw[slice(*span)] == b"700001"
    assert facts(raw)[:2] == facts(ORU)[:2]
    assert message.raw is raw


def test_an_lf_that_begins_a_segment_among_crs_ends_the_one_before():
    raw = b"MSH|^~\\&|A|B|C|D|||ADT^A01|W1|P|2.6\nPID|1||7\rNTE|1||two\nlines, no|segment\nZLB|x\r"
    assert facts(raw).route.version == b"2.6"
    message = Message(raw)
    assert message.read(["MSH-12", "PID-3", "NTE-3", "ZLB-1"]) == [b"2.6", b"7", b"two\nlines, no", b"x"]
    assert [raw[slice(*span)][:3] for _, span in message.segments()] == [b"MSH", b"PID", b"NTE", b"ZLB"]


def test_blank_lines_between_segments_are_no_segments():
    assert Message(ORU.replace(b"\r", b"\r\r\n\r")).count == 5


@given(
    separator,
    st.lists(
        st.lists(st.binary(max_size=5).map(lambda data: data.translate(None, b"|$#@*!%\r\n")), max_size=6), max_size=5
    ),
)
def test_the_view_agrees_with_splitting_by_hand(mark, rows):
    field = bytes([mark])
    rows = [
        [b"MSH", b"^~\\&".replace(field, b"."), *(rows[0] if rows else [])],
        *[[b"Z%02d" % n, *row] for n, row in enumerate(rows)],
    ]
    message = Message(b"\r".join(field.join(row) for row in rows))
    assert message.count == len(rows)
    for row in rows:
        shift = 1 if row[0] == b"MSH" else 0
        for number, value in enumerate(row[1 + shift :], 1 + 2 * shift):
            assert message.get(Path(segment=row[0], field=number)) == value
        assert message.get(Path(segment=row[0], field=len(row) + shift)) is None


@given(hostile, st.sampled_from([b"MSH|^~\\&|", b"MSH$^", b"FHS|^~\\&|\rMSH#", b"\nMSH|", b""]))
def test_no_bytes_make_the_view_raise(data, start):
    try:
        message = Message(start + data)
    except NotEr7:
        return
    paths = ["MSH-1", "MSH-2", "MSH-9.2", "PID-3[2].4.1", "FHS-3", "ZZZ[9]-0"]
    for path, value in zip(paths, message.read(paths), strict=True):
        span = message.span(path)
        assert value == (None if span is None else message.raw[slice(*span)])
    assert message.count == len(list(message.segments()))


@given(hostile, st.sampled_from([b"MSH|^~\\&|", b"MSH$^", b"FHS|^~\\&|\rMSH#", b"\n\nMSH|", b"MSH|^~\\&|A|B|C|D|\r"]))
def test_facts_are_what_the_view_reads_at_their_paths(data, start):
    raw = start + data
    try:
        found = facts(raw)
    except NotEr7:
        return
    if raw.startswith(b"FHS"):
        raw = header(raw)  # the view of a batch has the separators of its FHS
    paths = ["MSH-3", "MSH-4", "MSH-5", "MSH-6", "MSH-9", "MSH-9.1", "MSH-9.2", "MSH-11", "MSH-12", "MSH-13"]
    paths += ["MSH-15", "MSH-16", "MSH-18", "MSH-10"]
    assert [*found.route, found.control_id] == [value or b"" for value in Message(raw).read(paths)]


def test_facts_of_a_whole_header():
    assert facts(ORU).control_id == b"W0001"
    assert facts(ORU).route == Route(
        sending_application=b"LAB",
        sending_facility=b"CLINIC 7^1.2.3^ISO",
        receiving_application=b"HIS",
        receiving_facility=b"MOH",
        message_type=b"ORU^R01^ORU_R01",
        message_code=b"ORU",
        trigger_event=b"R01",
        processing_id=b"P^T",
        version=b"2.5.1",
        sequence_number=b"7",
        accept_ack=b"AL",
        application_ack=b"NE",
        character_set=b"UNICODE UTF-8",
    )


def test_facts_of_a_short_header_are_empty_where_it_ends():
    assert facts(b"MSH|^~\\&|LAB") == Facts(Route(sending_application=b"LAB"), b"")
    assert facts(b"MSH||LAB") == Facts(Route(sending_application=b"LAB"), b"")


@pytest.mark.parametrize("terminator", [b"\r", b"\n", b"\r\n"])
def test_facts_of_a_batch_are_those_of_its_first_message(terminator):
    batch = b"FHS|^~\\&|X\rBHS|^~\\&|Y\r".replace(b"\r", terminator) + ORU.replace(b"\r", terminator) * 2
    assert facts(batch)[:2] == facts(ORU)[:2]


def test_a_batch_without_a_message_has_no_facts():
    with pytest.raises(NotEr7):
        facts(b"FHS|^~\\&|X\rFTS|0\r")


def test_a_header_without_end_is_read_up_to_a_limit():
    raw = b"MSH|^~\\&|LAB|||||||W1|" + b"x" * 2 * HEADER_BYTES_MAX
    assert len(header(raw)) == HEADER_BYTES_MAX + 1
    assert facts(raw).control_id == b"W1"


@given(
    (st.binary(max_size=120) | st.text("|^~&AZ19\r", max_size=60).map(str.encode)).map(
        lambda tail: b"MSH|^~\\&|" + tail.replace(b"\n", b"")
    )
)
def test_facts_of_the_usual_separators_are_those_of_the_index(raw: bytes) -> None:
    head = header(raw)
    values = er7_read(head, er7_index(head, read_separators(head).kernel), message._ROUTING)
    found = facts(raw)
    assert [*found.route, found.control_id] == [value or b"" for value in values]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n", b"\n\r", b"\n\r\n\r"])
def test_lfs_that_end_a_segment_among_crs_are_no_value(end):
    raw = b"MSH|^~\\&|A|B|C|D|||ADT^A01|W1|P|2.6" + end + b"PID|1||7\rNTE|1||a\nb|" + end
    message = Message(raw)
    assert message.read(["MSH-12", "PID-3", "NTE-3", "NTE-4", "NTE-5"]) == [b"2.6", b"7", b"a\nb", b"", None]
    assert facts(raw).route.version == b"2.6"
    assert message.count == 3


def test_a_header_that_is_its_name_alone_has_no_separator():
    message = Message(b"FHS|^~\\&|A\rMSH\rMSH|^~\\&|B\r")
    assert message.read(["FHS-1", "MSH-0", "MSH-1", "MSH-2", "MSH[2]-1", "MSH[2]-3"]) == [
        b"|",
        b"MSH",
        None,
        None,
        b"|",
        b"B",
    ]
    assert message.span("MSH-1") is None
