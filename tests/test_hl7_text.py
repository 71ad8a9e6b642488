"""The text view: every value as what its sender wrote, its character set known, what is wrong named at its path; no bytes make it raise."""

import random
import string

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from hl7.charsets import Charset, Source, charset_of, hides_separators, of_file, twin
from hl7.errors import NotEr7
from hl7.escapes import Flag, escape_text
from hl7.message import Message, Path
from hl7.separators import STANDARD, Separators, read_separators
from hl7.text import State, Text

NAME = "سجل"  # D3 CC E1 in Windows-1256, D3 CC E4 in ISO 8859-6
WITH_TRUNCATION = read_separators(b"MSH|^~\\&#|")


def message(
    value: bytes | str,
    *,
    declared: bytes | str = b"",
    codec: str = "utf-8",
    mark: bytes = b"^~\\&",
    scheme: bytes = b"",
) -> bytes:
    data = value.encode(codec) if isinstance(value, str) else value
    declared = declared.encode() if isinstance(declared, str) else declared
    header = b"|".join(
        [
            b"MSH",
            mark,
            b"LAB",
            b"C",
            b"H",
            b"M",
            b"20260101",
            b"",
            b"ORU^R01",
            b"W1",
            b"T",
            b"2.9",
            *[b""] * 5,
            declared,
            b"",
            scheme,
        ]
    )
    return header + b"\rPID|1||7|" + b"\rOBX|1|TX|X||" + data + b"|mmol\rZLB|end\r"  # fmt: skip


def text_of(value: bytes | str, path: str = "OBX-5", is_formatted: bool = False, **settings) -> tuple[str, Flag]:
    written = {name: settings.pop(name) for name in ("declared", "codec", "mark", "scheme") if name in settings}
    found = Text(message(value, **written), **settings).get(path, is_formatted=is_formatted)
    return found.text, found.flags


# ---- which character set ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("declared", "settings", "codec", "source"),
    [
        (b"", {}, "utf-8", Source.DEFAULT),
        (b'""', {}, "utf-8", Source.DEFAULT),
        (b"", {"charset_default": "cp1256"}, "cp1256", Source.DEFAULT),
        (b"~ISO IR87", {"charset_default": "cp1256"}, "cp1256", Source.DEFAULT),
        (b"8859/6", {"charset_default": "cp1256"}, "iso8859_6", Source.MESSAGE),
        (b"unicode utf-8", {}, "utf-8", Source.MESSAGE),
        (b"8859/6~ISO IR87", {}, "iso8859_6", Source.MESSAGE),
        (b"8859/6", {"charset": "cp1256"}, "cp1256", Source.FEED),
        (b"UTF-8", {"charset_default": "cp1256"}, "utf-8", Source.UNKNOWN),
        (b"klingon~8859/6", {}, "utf-8", Source.UNKNOWN),
    ],
)
def test_the_feeds_setting_outweighs_msh_18_and_that_the_feeds_default(declared, settings, codec, source):
    assert charset_of(declared, ord("~"), **settings)[:2] == (codec, source)
    value = Text(message("x", declared=declared), **settings).get("OBX-5")
    assert (value.charset.codec, value.charset.source) == (codec, source)


def test_a_setting_that_no_frame_can_carry_is_refused():
    for setting in ({"charset": "utf-16"}, {"charset_default": "utf-32"}, {"charset": "klingon"}):
        with pytest.raises(ValueError, match="not a character set"):
            Text(message("x"), **setting)


@pytest.mark.parametrize(
    ("declared", "codec", "settings"),
    [
        ("UNICODE UTF-8", "utf-8", {}),
        ("", "utf-8", {}),
        ("8859/6", "iso8859_6", {}),
        ("", "cp1256", {"charset": "cp1256"}),
        ("8859/1", "cp1256", {"charset": "cp1256"}),
        ("", "iso8859_6", {"charset_default": "iso8859_6"}),
    ],
)
def test_arabic_is_the_same_word_in_every_character_set(declared, codec, settings):
    assert text_of(f"{NAME}^{NAME}", "OBX-5.2", declared=declared, codec=codec, **settings) == (NAME, Flag.NONE)


def test_only_the_setting_tells_windows_arabic_from_iso_arabic():
    word = NAME.encode("cp1256")
    assert text_of(word, charset="cp1256") == (NAME, Flag.NONE)
    assert text_of(word, charset="iso8859_6") == ("سجف", Flag.NONE)  # a wrong guess stays silent


@pytest.mark.parametrize(
    ("declared", "codec"),
    [("GB 18030-2000", "gb18030"), ("BIG-5", "big5"), ("ISO IR14", "shift_jis"), ("KS X 1001", "euc_kr")],
)
def test_characters_that_hold_separators_do_not_divide_a_field(declared, codec):
    marks = "|^~\\&"
    wide = [chr(number) for number in range(0x3400, 0xD7A3)]
    held = [each for each in wide if _bytes(each, codec)[1:].strip(string.printable.encode()) != _bytes(each, codec)[1:] or any(ord(mark) in _bytes(each, codec) for mark in marks)][:200]  # fmt: skip
    plain = [each for each in wide if len(_bytes(each, codec)) > 1][:50]
    for each in [*held, *plain]:
        text = Text(message(f"a{each}b^c", declared=declared, codec=codec))
        assert [text.get(path).text for path in ("OBX-5.1", "OBX-5.2", "OBX-6", "ZLB-1")] == [
            f"a{each}b",
            "c",
            "mmol",
            "end",
        ]
    assert bool(held) == hides_separators(codec)


def _bytes(each: str, codec: str) -> bytes:
    try:
        return each.encode(codec)
    except UnicodeError:
        return b""


def test_what_hides_separators_is_found_by_trying():
    assert {name for name in ("gb18030", "gbk", "big5", "cp950", "shift_jis", "cp932", "iso2022_jp", "hz") if hides_separators(name)} == {
        *("gb18030", "gbk", "big5", "cp950", "shift_jis", "cp932", "iso2022_jp", "hz"),
    }  # fmt: skip
    assert not [name for name in ("ascii", "utf-8", "cp1256", "iso8859_6", "cp1252", "euc_kr", "euc_jp", "gb2312") if hides_separators(name)]  # fmt: skip


def test_a_character_broken_at_a_fields_end_costs_no_other_field():
    for declared, lead in (("GB 18030-2000", b"\x81"), ("BIG-5", b"\xa4"), ("ISO IR14", b"\x81")):
        raw = message(b"good", declared=declared).replace(b"PID|1||7|", b"PID|1||7|x" + lead)
        text = Text(raw)
        assert text.get("PID-4").flags == Flag.UNDECODABLE
        assert [text.get(path).text for path in ("OBX-5", "ZLB-1")] == ["good", "end"]
        assert list(text.flagged()) == [("PID-4", Flag.UNDECODABLE)]


@pytest.mark.parametrize(
    ("declared", "scheme"), [("~ISO IR87", "ISO 2022-1994"), ("ISO IR87", ""), ("ASCII~ISO IR87~ISO IR159", "")]
)
def test_japanese_by_escape_sequences_of_iso_2022_is_divided_where_its_sender_divided_it(declared, scheme):
    kanji = "".join(bytes((0xB0, mark | 0x80)).decode("euc_jp") for mark in b"|^~\\&")
    parts = b"^".join([kanji.encode("iso2022_jp")] * 2)
    assert parts.count(b"|") == parts.count(b"~") == 2
    text = Text(message(parts, declared=declared, scheme=scheme.encode()))
    assert [text.get(path).text for path in ("OBX-5.1", "OBX-5.2", "OBX-6")] == [kanji, kanji, "mmol"]
    assert not list(text.flagged())


def test_an_escape_sequence_that_is_never_ended_costs_its_own_segment_only():
    text = Text(message(b"\x1b$B;3ED", declared="~ISO IR87"))
    assert text.get("ZLB-1").text == "end"
    assert text.get("OBX-5").text.startswith("山田")


def test_ascii_that_is_none_is_read_by_the_feeds_default_and_flagged():
    assert text_of(NAME, declared="ASCII") == (NAME, Flag.OUTSIDE)
    assert text_of(NAME, declared="ASCII", codec="cp1256", charset_default="cp1256") == (NAME, Flag.OUTSIDE)
    assert text_of(b"\xff", declared="ASCII") == ("�", Flag.UNDECODABLE)


def test_bytes_that_are_no_text_are_flagged_at_their_own_path_and_nowhere_else():
    raw = message(b"a\xff^good~c\xc3&d\xd8\xb3", declared="UNICODE UTF-8")
    text = Text(raw)
    assert dict(text.flagged()) == {"OBX-5.1": Flag.UNDECODABLE, "OBX-5[2].1.1": Flag.UNDECODABLE}
    assert text.get("OBX-5.1").text == "a�"
    assert text.get("OBX-5[2].1.2").text == "dس"
    assert text.raw is raw


# ---- nothing, null, cut -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("path", "state"),
    [
        ("PID-4", State.EMPTY), ("PID-9", State.ABSENT), ("NK1-1", State.ABSENT), ("OBX-5", State.NULL), ("OBX-5.1", State.NULL),
        ("OBX-5.2", State.ABSENT), ("OBX-6", State.VALUED), ("PID-5", State.ABSENT), ("MSH-1", State.VALUED), ("MSH-2", State.VALUED), ("OBX[2]-1", State.ABSENT),
    ],
)  # fmt: skip
def test_null_empty_and_absent_are_told_apart(path, state):
    found = Text(message('""')).get(path)
    assert found.state is state
    assert bool(found.text) == (state is State.VALUED)


def test_null_is_null_at_every_level_and_only_alone():
    text = Text(message('""^a&""~""^x""'))
    states = {path: text.get(path).state for path in ("OBX-5", "OBX-5[1].1", "OBX-5.2.2", "OBX-5[2].1", "OBX-5[2].2")}
    assert [path for path, state in states.items() if state is State.NULL] == ["OBX-5[1].1", "OBX-5.2.2", "OBX-5[2].1"]


def test_the_truncation_character_at_a_values_end_is_flagged_where_it_is_declared():
    assert text_of("Alexandrin#", mark=b"^~\\&#") == ("Alexandrin#", Flag.TRUNCATED)
    assert text_of(r"Room \P\ ", mark=b"^~\\&#") == ("Room # ", Flag.NONE)
    assert text_of("Alex#^b", "OBX-5.1", mark=b"^~\\&#") == ("Alex#", Flag.TRUNCATED)
    assert text_of("Alexandrin#") == ("Alexandrin#", Flag.NONE)
    assert text_of(r"Apt 5\P\ ".strip(), mark=b"^~\\&#") == ("Apt 5#", Flag.NONE)


def test_a_value_in_which_separators_stand_says_that_paths_lead_further():
    assert text_of("a & b") == ("a & b", Flag.DIVIDED)
    assert text_of("a & b", "OBX-5.1.1") == ("a ", Flag.NONE)
    assert text_of("a~b", "OBX-5[2]") == ("b", Flag.NONE)


# ---- escapes in ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("written", "text", "flags"),
    [
        (r"A\F\B\S\C\T\D\R\E\E\F", "A|B^C&D~E\\F", Flag.NONE),
        (r"\H\bold\N\ plain", "bold plain", Flag.NONE),
        (r"\X0D0A\end", "\r\nend", Flag.NONE),
        (r"\XD8B3\\XD8\\XAC\ ", "سج ", Flag.NONE),
        (r"\XD8\ \XAC\ ", "� � ", Flag.UNDECODABLE),
        (r"\P\ ", r"\P\ ", Flag.UNKNOWN),
        (r"\X0\ ", r"\X0\ ", Flag.UNKNOWN),
        (r"C:\dir\file", r"C:\dir\file", Flag.UNKNOWN),
        ("lone\\", "lone\\", Flag.UNKNOWN),
        (r"\Zab1\ ", r"\Zab1\ ", Flag.LOCAL),
        (r"a\.br\b", r"a\.br\b", Flag.NONE),
        (r"\.zz\ ", r"\.zz\ ", Flag.UNKNOWN),
        (r"\C2D99\x", r"\C2D99\x", Flag.UNKNOWN),
        (r"\E\F\E\ ", r"\F\ ", Flag.NONE),
    ],
)  # fmt: skip
def test_known_escapes_are_what_they_stand_for_and_others_stay_and_are_flagged(written, text, flags):
    assert text_of(written) == (text, flags)


def test_hexadecimal_is_read_in_the_messages_own_character_set():
    assert text_of(r"\XD3CCE1\ ", charset="cp1256")[0] == NAME + " "
    assert text_of(rf"\X{NAME.encode('gb18030', 'replace').hex()}\ ", declared="GB 18030-2000")[1] in {
        Flag.NONE,
        Flag.UNDECODABLE,
    }
    assert text_of(rf"\X{'中'.encode('gb18030').hex()}\ ", declared="GB 18030-2000")[0] == "中 "


def test_local_escapes_are_looked_up_in_the_feeds_table():
    raw = message(r"5 \Zmicro\g \Zx\ ")
    assert Text(raw, local={"Zmicro": "µ"}).get("OBX-5")[::2] == ("5 µg \\Zx\\ ", Flag.LOCAL)


@pytest.mark.parametrize(
    ("escape", "codec", "name", "word"),
    [
        ("C2D47", "iso8859_6", "8859/6", NAME),
        ("C2D41", "iso8859_1", "8859/1", "Müller"),
        ("C2D42", "iso8859_2", "8859/2", "Łódź"),
        ("C2D43", "iso8859_3", "8859/3", "ħĝ"),
        ("C2D44", "iso8859_4", "8859/4", "ģ"),
        ("C2D4C", "iso8859_5", "8859/5", "Москва"),
        ("C2D46", "iso8859_7", "8859/7", "Αθήνα"),
        ("C2D48", "iso8859_8", "8859/8", "שלום"),
        ("C2D4D", "iso8859_9", "8859/9", "İzmir"),
        ("C2D62", "iso8859_15", "8859/15", "€"),
        ("C2949", "shift_jis", "ISO IR14", "ﾔﾏﾀﾞ"),
        ("M242942", "euc_jp", "ISO IR87", "山田"),
        ("M242943", "euc_kr", "KS X 1001", "김"),
        ("M242941", "gb2312", "GB 18030-2000", "中文"),
    ],
)
def test_a_switch_of_the_character_set_holds_to_the_values_end_or_the_way_back(escape, codec, name, word):
    written = f"a \\{escape}\\".encode() + word.encode(codec) + b"\\C2842\\ ok " + "é".encode() + b"^" + "é".encode()
    assert text_of(written, "OBX-5.1", declared=f"~{name}") == (f"a {word} ok é", Flag.NONE)
    assert text_of(written, "OBX-5.2", declared=f"~{name}") == ("é", Flag.NONE)
    assert text_of(written, "OBX-5.1") == (f"a {word} ok é", Flag.UNDECLARED)


def test_sets_of_the_left_half_are_read_by_pairs():
    kanji = "山田".encode("iso2022_jp")[3:-3]
    assert text_of(b"\\M2442\\" + kanji + b" \\C2842\\x", declared="~ISO IR87") == ("山田 x", Flag.NONE)
    assert text_of(b"\\M242844\\" + "丂".encode("iso2022_jp_1")[4:-3] + b"\\C2842\\x", declared="~ISO IR159") == (
        "丂x",
        Flag.NONE,
    )
    assert text_of(b"\\M2442\\" + kanji[:3], declared="~ISO IR87") == ("山�", Flag.UNDECODABLE)
    assert text_of(b"\\C284A\\a\\T\\b", declared="~ISO IR14") == ("a&b", Flag.NONE)
    assert text_of(b"\\C2849\\TO", declared="~ISO IR14")[1] == Flag.NONE


# ---- formatted text -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("written", "text"),
    [
        (r"one\.br\two", "one\ntwo"),
        (r"one\.sp\two", "one\ntwo"),
        (r"one\.sp+3\two", "one\n\n\ntwo"),
        (r"\.in+4\one\.br\two\.in-2\\.br\three", "    one\n    two\n  three"),
        (r"\.ti+2\one\.br\two", "  one\ntwo"),
        (r"\.nf\a\.fi\b\.ce\c", "ab\nc"),
        (r"a\.sk 3\b", r"a\.sk 3\b"),
        (r"a\.sk3\b\.sk\c", "a   bc"),
        (r"\.sp999999999\x", "\n" * 100 + "x"),
        (r"\H\RESULT\N\\.br\high", "RESULT\nhigh"),
    ],
)
def test_formatting_commands_become_lines_on_request(written, text):
    assert text_of(written, is_formatted=True)[0] == text
    assert "\\." in text_of(written)[0]


# ---- escapes out --------------------------------------------------------------------------------------------------
def test_text_is_written_as_one_value():
    assert escape_text("a|b^c&d~e\\f\r\x0b\x7f", STANDARD, "utf-8") == rb"a\F\b\S\c\T\d\R\e\E\f\X0D\\X0B\\X7F" + b"\\"
    assert escape_text("a\r\nb", STANDARD, "utf-8", is_formatted=True) == rb"a\.br\b"
    assert escape_text("#", WITH_TRUNCATION, "ascii") == rb"\P" + b"\\"
    assert escape_text(NAME, STANDARD, "cp1256") == NAME.encode("cp1256")
    assert escape_text(NAME, STANDARD, "cp1256", is_seven_bit=True) == rb"\XD3\\XCC\\XE1" + b"\\"


def test_a_character_that_the_set_lacks_is_refused_with_its_place():
    with pytest.raises(UnicodeEncodeError) as refused:
        escape_text(f"ab{NAME}", STANDARD, "iso8859_1")
    assert refused.value.start == 2


def test_a_character_whose_bytes_hold_a_separator_is_written_as_hexadecimal():
    each = b"\x81|".decode("gb18030")
    assert escape_text(f"a{each}中", STANDARD, "gb18030") == b"a\\X817C\\" + "中".encode("gb18030")


@given(
    st.text(max_size=40),
    st.sampled_from(["utf-8", "cp1256", "iso8859_6", "gb18030", "big5", "shift_jis", "euc_kr"]),
    st.booleans(),
)
@example("\x85\n‾¥~", "shift_jis", True)
def test_what_is_written_is_read_back_whatever_the_character_set(text, codec, is_seven_bit):
    text = text.encode(codec, "ignore").decode(codec, "ignore")
    assume(text not in {"", '""'})
    assume(text.encode(codec).decode(codec) == text)
    written = escape_text(text, STANDARD, codec, is_seven_bit=is_seven_bit)
    found = Text(message(written), charset=codec)
    assert found.get("OBX-5") == (text, State.VALUED, Flag.NONE, Charset(codec, Source.FEED, (b"",)))
    assert found.get("OBX-6").text == "mmol"
    assert not is_seven_bit or written.isascii()


def test_without_an_escape_character_separators_become_blanks_and_hexadecimal_is_refused():
    bare = Separators(field=ord("|"), component=ord("^"))
    assert escape_text("a|b^c\n", bare, "utf-8") == b"a b c "
    with pytest.raises(ValueError, match="without an escape"):
        escape_text(NAME, bare, "utf-8", is_seven_bit=True)


# ---- files --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_file_in_utf_16_or_32_is_read_by_its_mark(codec):
    raw = message(NAME, declared="UNICODE UTF-16")
    found = of_file(("\ufeff" + raw.decode()).encode(codec))
    assert found == (raw, codec)
    assert Text(found.raw, charset="utf-8").get("OBX-5").text == NAME


@pytest.mark.parametrize("declared", ["", "UNICODE UTF-16", "utf-16"])
@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_a_file_in_utf_16_without_a_mark_is_known_by_its_first_letters(codec, declared):
    raw = message(NAME, declared="UNICODE UTF-16")
    assert of_file(raw.decode().encode(codec), declared) == (raw, codec)


def test_other_files_are_what_a_frame_would_hold():
    for data in (message(NAME), b"\xef\xbb\xbf" + message(NAME), b"", b"M", b"\0\0\0\0"):
        assert of_file(data) is None


def test_broken_units_of_a_file_are_flagged_at_their_field():
    data = "\ufeff".encode("utf-16-le") + message("aQb^c").decode().encode("utf-16-le").replace(b"Q\0", b"\0\xd8")
    found = of_file(data)
    assert found is not None
    assert dict(Text(found.raw, charset="utf-8").flagged())["OBX-5.1"] == Flag.UNDECODABLE


# ---- no bytes -----------------------------------------------------------------------------------------------------
HOSTILE = st.lists(
    st.sampled_from(
        [b"MSH", b"PID", b"|", b"^", b"~", b"\\", b"&", b"#", b"\r", b"\n", b"\\X", b"\\C2D47\\", b"\\M2442\\", b"\\.br\\", b"\\.in+9\\", b"\\Z", b"\x1b$B", b"\x1b(B", b"\x81", b'""']
    )
    | st.binary(max_size=4),
    max_size=40,
).map(b"".join)  # fmt: skip
CODECS = [
    "",
    "utf-8",
    "cp1256",
    "gb18030",
    "big5",
    "shift_jis",
    "iso2022_jp",
    "iso2022_kr",
    "hz",
    "johab",
    "euc_jp",
    "raw_unicode_escape",
]


@given(st.sampled_from([b"MSH|^~\\&|", b"MSH|^~\\&#|", b"MSH$^", b"MSH\xe1^~\\&", b"FHS|^~\\&|\rMSH#", b"\nMSH|", b"", message(b"x", declared=b"GB 18030-2000~ISO IR87")]), HOSTILE, st.sampled_from(CODECS))  # fmt: skip
def test_no_bytes_make_the_text_view_raise_and_it_agrees_with_the_view_of_bytes(start, data, codec):
    raw = start + data
    try:
        text = Text(raw, charset=codec)
    except NotEr7:
        with pytest.raises(NotEr7):
            Message(raw)
        return
    body = twin(raw, text.charset)
    view = Message(body)
    list(text.flagged())
    for path, value in [*text.values(is_formatted=True)][:50]:
        try:
            parsed = Path.parse(path)
        except ValueError:  # a segment's name that is none
            continue
        if b"[" not in raw:
            assert text.bytes_at(parsed) == view.get(parsed)
            assert text.get(path, is_formatted=True).text == value.text
    for path in (
        "MSH-0",
        "MSH-1",
        "MSH-2",
        "MSH-2.3",
        "MSH-9.2",
        "MSH-18",
        "PID-0",
        "PID-3[2].4.1",
        "PID[2]-5",
        "PID-1[1]",
        "OBX-5.1.2",
        "FHS-1",
    ):
        assert text.bytes_at(Path.parse(path)) == view.get(path), path
        text.get(path)
        text.get(path, is_formatted=True)


@given(st.binary(max_size=400), st.sampled_from(["", "utf-16"]))
def test_no_file_makes_its_reader_raise(data, declared):
    for start in (b"", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0", b"M\0S\0H\0"):
        found = of_file(start + data, declared)
        assert found is None or isinstance(found.raw, bytes)


def test_values_are_all_that_stands_in_a_message():
    text = Text(message('a&b^""~c', mark=b"^~\\&#"))
    assert [path for path, _ in text.values() if path[:3] != "MSH"] == [
        *(
            "PID-1",
            "PID-3",
            "OBX-1",
            "OBX-2",
            "OBX-3",
            "OBX-5.1.1",
            "OBX-5.1.2",
            "OBX-5.2",
            "OBX-5[2]",
            "OBX-6",
            "ZLB-1",
        ),
    ]
    assert next(iter(text.values())) == ("MSH-3", ("LAB", State.VALUED, Flag.NONE, text.charset))


def test_a_large_message_is_read_in_time_that_grows_with_its_size():
    dice = random.Random(7)
    rows = [b"OBX|%d|TX|X||%b|\r" % (n, bytes(dice.choices(b"abc\\~&^", k=30))) for n in range(3000)]
    text = Text(message(b"x") + b"".join(rows))
    assert text.get("OBX[3001]-1").text == "2999"
    assert sum(1 for _ in text.values()) > 12_000
