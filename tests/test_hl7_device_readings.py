"""Readings out of the languages that are no lines of fields: JSON, SenML, Sparkplug B, Modbus, printed lines, CSV, POCT1-A."""

import contextlib
import json
import string
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hl7.devices.capture import cut
from hl7.devices.profile import Profile, read_profile
from hl7.devices.read import READ, read
from hl7.devices.readings import NoReadings
from node.devices.profiles import find
from tests.device_captures import BODIES, framed


def profile(kind: str, more: str = "", tables: str = "") -> Profile:
    text = f'title = "t"\nsource = "s"\nkind = "{kind}"\n{more}\n[device]\nmanufacturer = "m"\nmodel = "m"\ncategory = "vital-signs"\n{tables}'
    return read_profile("x", text)


def said(body: bytes, by: Profile) -> list[tuple[str, str, str, str]]:
    return [(each.code, each.value, each.unit, each.at) for each in read(body, by).each()]


# ---- JSON -------------------------------------------------------------------------------------------------------------
def test_json_keeps_digits_and_takes_lists_members_and_nested_values():
    listed = profile("mqtt", tables='[fields]\nresults = "/data"\ncode = "id"\nvalue = "v/n"\nunit = "v/u"\nat = "t"\n')
    assert said(b'{"data": [{"id": "hr", "v": {"n": 72.00, "u": "bpm"}, "t": "2026-11-22T10:00:00Z"}]}', listed) == [
        ("hr", "72.00", "bpm", "2026-11-22T10:00:00Z")
    ]
    flat = profile("mqtt", tables='[implied_units]\nspo2 = "%"\n')
    found = read(b'{"spo2": 97.0, "other": 1}', flat)
    assert [(each.code, each.value) for each in found.each()] == [("spo2", "97.0")]
    assert [(each.path, each.text) for each in found.left] == [("/other", "1")]
    moments = profile("mqtt", 'time_unit = "s"', '[fields]\nresults = "/m"\nat = "ts"\n[implied_units]\nhr = "/min"\n')
    assert [row[3] for row in said(b'{"m": [{"ts": 1795342530, "hr": 70}, {"ts": 1795342531.5, "hr": 71}]}', moments)] == [
        "2026-11-22T10:15:30Z", "2026-11-22T10:15:31.500Z",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "body", [b"", b"[", b"\xff", b"null", b"[]", b"{}", b'"x"', b"[" * 60 + b"]" * 60, b'{"a":' * 5000]
)
def test_json_without_a_result_is_refused(body):
    for kind in ("json", "senml", "sparkplug", "modbus"):
        with pytest.raises(NoReadings):
            read(body, profile("mqtt", f'language = "{kind}"'))


def test_nan_in_json_is_a_text_and_so_no_number():
    by = profile("mqtt", tables='[implied_units]\ntemp = "Cel"\n')
    assert said(b'{"temp": NaN}', by) == [("temp", "NaN", "", "")]


def test_senml_resolves_its_base_and_never_invents_a_time():
    by = profile("mqtt", 'language = "senml"')
    pack = b'[{"bn": "urn:dev:ow:1/", "bt": 1795342530, "bu": "Cel", "n": "t", "v": 4.20}, {"n": "h", "u": "%RH", "v": 55, "t": 10}]'
    found = read(pack, by)
    assert found.sender == "urn:dev:ow:1/"
    assert [(each.code, each.value, each.unit, each.at) for each in found.each()] == [
        ("t", "4.20", "Cel", "2026-11-22T10:15:30Z"), ("h", "55", "%RH", "2026-11-22T10:15:40Z"),
    ]  # fmt: skip
    relative = read(b'[{"n": "t", "v": 1, "t": -5}]', by)
    assert [(each.at, each.notes) for each in relative.each()] == [
        ("", ["time is relative to the arrival: the result has no time of its own (-5 s)"])
    ]


def test_sparkplug_metrics_are_readings_and_null_is_no_value():
    by = profile("mqtt", 'language = "sparkplug"')
    body = b'{"timestamp": 1795342530000, "metrics": [{"name": "T", "value": 4.5}, {"name": "U", "is_null": true}, {"alias": 3, "value": 1}], "seq": 2}'
    found = read(body, by)
    assert [(each.code, each.value, each.none) for each in found.each()] == [("T", "4.5", ""), ("U", "", "unknown")]
    assert [each.path for each in found.left] == ["/metrics/2"]


# ---- Modbus -----------------------------------------------------------------------------------------------------------
def poll(registers: list[int], *, address: int = 0, **more: object) -> bytes:
    return json.dumps(
        {"v": 1, "unit": 1, "function": "holding", "address": address, "registers": registers, "wall_us": 0} | more
    ).encode()


def points(*rows: str) -> Profile:
    return profile("modbus", tables="".join(f"[[point]]\n{row}\n" for row in rows))


def test_registers_are_read_by_type_order_and_scale():
    high, low = struct.unpack(">HH", struct.pack(">f", 4.2))
    by = points(
        'code = "a"\naddress = 0\nscale = -1', 'code = "b"\naddress = 1\ntype = "uint32"', 'code = "c"\naddress = 1\ntype = "int32"\norder = "little"',
        'code = "d"\naddress = 3\ntype = "float32"', 'code = "e"\naddress = 5\ntype = "sfloat"', 'code = "f"\naddress = 6\nnone = [0x8000]',
        'code = "g"\naddress = 7\ntype = "float32"',
    )  # fmt: skip
    found = list(read(poll([65351, 1, 65535, high, low, 0xF16E, 0x8000, 0x7FC0, 0]), by).each())
    assert [(each.code, each.value, each.none) for each in found] == [
        ("a", "-18.5", ""), ("b", "131071", ""), ("c", "-65535", ""), ("d", "4.2", ""), ("e", "36.6", ""), ("f", "0x8000", "unknown"),
        ("g", "", "not-a-number"),
    ]  # fmt: skip


def test_a_register_that_no_point_reads_is_listed_and_a_half_point_is_no_value():
    found = read(
        poll([1, 2, 3], address=10), points('code = "a"\naddress = 10', 'code = "b"\naddress = 12\ntype = "int32"')
    )
    assert [each.code for each in found.each()] == ["a"]
    assert [each.path for each in found.left] == ["registers[12]", "registers[11]"]
    with pytest.raises(NoReadings):
        read(poll([1], address=99), points('code = "a"\naddress = 10'))
    with pytest.raises(NoReadings):
        read(poll([70000]), points('code = "a"\naddress = 0'))


@given(value=st.floats(width=32, allow_nan=False, allow_infinity=False))
@settings(max_examples=60, deadline=None)
def test_a_float_register_reads_back_to_its_own_bits(value):
    high, low = struct.unpack(">HH", struct.pack(">f", value))
    (found,) = read(poll([high, low]), points('code = "a"\naddress = 0\ntype = "float32"')).each()
    assert struct.pack(">f", float(found.value)) == struct.pack(">f", value)


# ---- lines, CSV, POCT1-A ----------------------------------------------------------------------------------------------
def test_a_line_that_no_pattern_matches_is_listed():
    found = read(BODIES["urine-strip-lines"], find("urine-strip-lines"))
    assert [(each.code, each.value, each.unit) for each in found.each()] == [
        ("GLU", "NEGATIVE", ""), ("PRO", "30", "mg/dL"), ("SG", ">=1.030", ""), ("KET", "++", ""),
    ]  # fmt: skip
    assert found.samples[0].number == "U-17"
    assert [each.path for each in found.left] == ["line 6", "line 9"]


def test_a_csv_has_a_sample_for_each_sample_and_lists_rows_of_another_width():
    found = read(BODIES["qpcr-csv"] + b"S-9,N1\r\n", find("qpcr-csv"))
    assert [(each.number, len(each.readings), bool(each.quality)) for each in found.samples] == [
        ("S-4718", 2, False),
        ("NTC", 1, True),
    ]
    assert any(each.text == "S-9,N1" for each in found.left)


def test_poct1a_takes_no_doctype_and_no_entity():
    by = find("abbott-istat")
    bomb = b'<!DOCTYPE x [<!ENTITY a "1">]><OBS.R01><OBS><OBS.value V="&a;"/></OBS></OBS.R01>'
    with pytest.raises(NoReadings, match="DOCTYPE"):
        read(bomb, by)
    found = read(BODIES["abbott-istat"], by)
    assert [sample.quality for sample in found.samples] == ["", "liquid quality control"]
    sodium = found.samples[0].readings[0]
    assert (sodium.code, sodium.value, sodium.range) == ("Na", "140", "138-146")


def test_a_query_of_an_analyzer_is_no_result():
    with pytest.raises(NoReadings, match="query"):
        read(b"H|\\^&\rQ|1|^S-1||ALL\rL|1|N\r", find("sysmex-xn"))


# ---- captures ---------------------------------------------------------------------------------------------------------
ASTM = [name for name in BODIES if find(name).language == "astm"]


@pytest.mark.parametrize("name", ASTM)
@pytest.mark.parametrize("size", [17, 240, 64000])
def test_a_capture_of_frames_gives_the_body_that_was_sent(name, size):
    found = cut(framed(BODIES[name], size=size), find(name))
    assert found.bodies == [BODIES[name]]


def test_a_capture_may_be_a_terminals_log_with_names_for_control_characters():
    line = framed(BODIES["beckman-access"])
    names = {2: "<STX>", 3: "<ETX>", 4: "<EOT>", 5: "<ENQ>", 6: "<ACK>", 10: "<LF>", 13: "<CR>", 23: "<ETB>"}
    text = "".join(names.get(octet, chr(octet)) + ("\n" if octet == 10 else "") for octet in line)
    assert cut(text.encode(), find("beckman-access")).bodies == [BODIES["beckman-access"]]


def test_a_damaged_and_a_repeated_frame_of_a_capture_are_told_and_left_out():
    frames = framed(BODIES["snibe-maglumi"]).split(b"\x06")
    spoilt = frames[2].replace(b"P|1", b"P|2")
    found = cut(b"\x06".join([*frames[:2], spoilt, frames[2], frames[2], *frames[3:]]), find("snibe-maglumi"))
    assert found.bodies == [BODIES["snibe-maglumi"]]
    assert sum("damaged" in line for line in found.frames) == 1
    assert sum("once more" in line for line in found.frames) == 1


def test_captures_of_other_kinds_are_cut_into_their_messages():
    mllp = b"".join(
        b"\x0b" + BODIES["mindray-bc"] + b"\x1c\r\x0bMSH|^~\\&|||||||ACK|1|P|2.3.1\rMSA|AA|7\r\x1c\r" for _ in range(2)
    )
    assert cut(mllp, find("mindray-bc")).bodies == [BODIES["mindray-bc"]] * 2
    topic = b"".join(b"site/bed1/vitals " + BODIES["vitals-mqtt"] + b"\n" for _ in range(3))
    assert cut(topic, find("vitals-mqtt")).bodies == [BODIES["vitals-mqtt"]] * 3
    talk = b"<HEL.R01><HDR/></HEL.R01>" + BODIES["abbott-istat"] + b"\n<END.R01></END.R01>"
    assert cut(talk, find("abbott-istat")).bodies == [BODIES["abbott-istat"]]


@given(
    data=st.binary(max_size=300) | st.text(string.printable + "مريم\x02\x03\x05|^", max_size=300).map(str.encode),
    language=st.sampled_from(sorted(READ)),
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(data, language):
    by = profile(
        "mqtt",
        f'language = "{language}"\npatterns = ["(?P<code>[A-Z]+) (?P<value>.*)"]',
        '[implied_units]\na = "%"\n[[point]]\ncode = "a"\naddress = 0\n',
    )
    for body in (data, *cut(data, by).bodies):
        with contextlib.suppress(NoReadings):
            read(body, by)


def test_half_of_a_character_in_json_becomes_the_mark_of_a_lost_one():
    by = find("vitals-mqtt")
    body = b'{"device": "VG\\ud83d\\ude00", "vitals": {"hr": {"value": "72", "unit": "\\ud800rpm"}}}'
    (reading,) = read(body, by).each()
    assert reading.unit == "\ufffdrpm"
    assert read(body, by).sender == "VG\U0001f600"
