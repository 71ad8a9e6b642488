"""Separators, escape sequences and character sets: what a message declares is what is read, and nothing raises but NotEr7."""

import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hl7.ack import acknowledge
from hl7.check import check
from hl7.errors import NotEr7
from hl7.escapes import Flag
from hl7.message import Message
from hl7.separators import STANDARD, Separators, codec, escape, read_separators, unescape
from hl7.text import Text

USABLE = bytes(set(range(256)) - set(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz \r\n\x0b\x1c"))
ROLES = ("component", "repetition", "escape", "subcomponent", "truncation")

dialects = st.lists(st.sampled_from(USABLE), min_size=2, max_size=6, unique=True).map(
    lambda used: Separators(field=used[0], **dict(zip(ROLES, used[1:], strict=False)))
)


def roles(separators):
    return [getattr(separators, role) for role in ROLES]


@given(
    st.lists(st.sampled_from(USABLE), min_size=2, max_size=6, unique=True), st.sampled_from([b"MSH", b"FHS", b"BHS"])
)
def test_every_declaration_of_one_to_five_characters_is_read(used, name):
    field, declared = used[0], used[1:]
    separators = read_separators(name + bytes(used) + bytes([field]) + b"APP")
    assert separators.field == field
    if len(declared) != 3 or declared[2] != ord("&"):
        assert roles(separators) == declared + [None] * (5 - len(declared))


@pytest.mark.parametrize("length", range(1, 6))
def test_every_order_of_the_usual_characters_is_read_as_declared(length):
    for declared in itertools.permutations(b"^~\\&#", length):
        separators = read_separators(b"MSH|" + bytes(declared) + b"|APP")
        read = [*declared[:2], None, declared[2]] if length == 3 and declared[2] == ord("&") else declared
        assert roles(separators) == [*read, *[None] * (5 - len(read))]


def test_an_ampersand_that_comes_third_and_last_divides_subcomponents_and_nothing_escapes():
    raw = b"MSH|^~&|LAB|C7|W|H|20300101||ORU^R01|1|P|2.5.1\rPID|1||7^^^MPI&2.16.840.1&ISO~8^^^X&F&Y||A&T&B\r"
    separators = read_separators(raw)
    assert roles(separators) == [*b"^~", None, ord("&"), None]
    view, text = Message(raw), Text(raw)
    assert view.read(("MSH-2", "PID-3.4.2", "PID-3[2].4.2", "PID-5")) == [b"^~&", b"2.16.840.1", b"F", b"A&T&B"]
    assert (text.get("PID-3.4.3").text, text.get("PID-5.1.2").text, text.get("PID-5.1").flags) == (
        "ISO",
        "T",
        Flag.DIVIDED,
    )
    reply = acknowledge(raw, check(raw), control_id=b"R", now=b"20300101")
    assert reply.startswith(b"MSH|^~&|W|H|LAB|C7|")


@pytest.mark.parametrize("field", sorted(USABLE))
def test_every_usable_field_separator_is_read(field):
    mark = bytes([field])
    assert read_separators(b"MSH" + mark + b"^~\\&".replace(mark, b"#") + mark).field == field


@pytest.mark.parametrize("field", sorted(set(range(256)) - set(USABLE)))
def test_letters_digits_blanks_and_frame_bytes_are_no_separator(field):
    with pytest.raises(NotEr7):
        read_separators(b"MSH" + bytes([field]) + b"^~\\&" + bytes([field]))


def test_a_character_declared_twice_has_its_first_meaning():
    separators = read_separators(b"MSH|^~\\\\&|")  # seen in the wild: an escaped escape
    assert roles(separators) == [*b"^~\\", None, ord("&")]
    assert separators.kernel == b"|^~|"


def test_an_undeclared_level_repeats_the_field_separator_for_the_kernel():
    assert read_separators(b"MSH|^|").kernel == b"|^||"
    assert read_separators(b"MSH||APP").kernel == b"||||"
    assert STANDARD.kernel == b"|^~&"


@pytest.mark.parametrize(
    ("message", "declared"),
    [
        (b"MSH|^~\\&", b"^~\\&"),
        (b"MSH|^~\\&\rPID|1", b"^~\\&"),
        (b"MSH|^~\\\nPID|1", b"^~\\"),
        (b"MSH|^~\\&#*|APP", b"^~\\&#"),
        (b"MSH|^~\\&APP|FAC", b"^~\\&"),
        (b"MSH|", b""),
        (b"\xef\xbb\xbfMSH|^~\\&|", b"^~\\&"),
        (b"\r\n\r\n MSH|^~\\&|", b"^~\\&"),
    ],
)
def test_an_odd_declaration_is_read_as_far_as_it_goes(message, declared):
    assert roles(read_separators(message)) == [*declared, *[None] * (5 - len(declared))]


@pytest.mark.parametrize("message", [b"", b"M", b"MSH", b"\x0bMSH|^~\\&|", b"PID|1", b"H|\\^&", b"{}", b"xMSH|^~\\&|"])
def test_bytes_without_a_header_are_not_er7(message):
    with pytest.raises(NotEr7):
        read_separators(message)


@given(st.binary(max_size=12), st.sampled_from([b"", b"MSH", b"FHS", b"\nMSH|"]))
def test_reading_separators_raises_nothing_but_not_er7(data, start):
    try:
        separators = read_separators(start + data)
    except NotEr7:
        return
    assert len(separators.kernel) == 4
    declared = [byte for byte in roles(separators) if byte is not None]
    assert len(set(declared)) == len(declared)


@given(st.binary(max_size=60), dialects)
def test_what_was_escaped_comes_back(data, separators):
    assume(separators.escape is not None)
    written = escape(data, separators)
    assert not set(written) & {*separators.kernel, *b"\r\n\x0b\x1c"} - {separators.escape}
    assert unescape(written, separators) == data


@given(st.binary(max_size=60), dialects)
def test_escaped_data_is_one_value_even_where_no_escape_is_declared(data, separators):
    without = Separators(field=separators.field, component=separators.component)
    assert not set(escape(data, without)) & {separators.field, separators.component, *b"\r\n\x0b\x1c"}


@given(st.binary(max_size=60), dialects)
def test_unescaping_never_raises(data, separators):
    unescape(data, separators)
    unescape(data, Separators(field=separators.field))


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        (rb"A\F\B\S\C\T\D\R\E\E\F", rb"A|B^C&D~E\F"),
        (rb"\X0D0A\\XD8B3\.", b"\r\n\xd8\xb3."),
        (rb"line\.br\line\.sp+2\ ", rb"line\.br\line\.sp+2\ "),
        (rb"\H\F\N\ ", rb"\H\F\N\ "),
        (rb"\C2D47\ \M2442\ \Zlocal\ ", rb"\C2D47\ \M2442\ \Zlocal\ "),
        (rb"\P\ ", rb"\P\ "),
        (rb"\X0\ \XZZ\ \X\ \q\ C:\dir\F", rb"\X0\ \XZZ\ \X\ \q\ C:\dir\F"),
        (rb"\E\F\E\ ", rb"\F\ "),
        (b"\\", b"\\"),
        ("نتيجة\\T\\سليمة".encode(), "نتيجة&سليمة".encode()),
    ],
)
def test_known_escapes_are_replaced_and_others_stay(written, plain):
    assert unescape(written, STANDARD) == plain


def test_the_truncation_character_is_unescaped_where_it_is_declared():
    assert unescape(rb"long\P\ ", read_separators(b"MSH|^~\\&#|")) == b"long# "


@pytest.mark.parametrize("part", [1, 2, 3, 4, 5, 6, 7, 8, 9, 15])
def test_every_latin_set_of_table_0211_has_its_codec(part):
    name = codec(b"8859/%d" % part)
    assert name is not None
    assert "MSH|".encode(name) == b"MSH|"


def test_arabic_sets_read_the_same_word():
    word = "سجل"
    assert word.encode(codec(b"8859/6") or "") == b"\xd3\xcc\xe4"
    assert word.encode(codec(b" unicode utf-8 ") or "").decode() == word


@pytest.mark.parametrize(
    "name",
    [
        *(b"ASCII", b"UNICODE", b"UNICODE UTF-8", b"ISO IR6", b"ISO IR14", b"ISO IR87", b"ISO IR159"),
        *(b"GB 18030-2000", b"KS X 1001", b"BIG-5"),
    ],
)
def test_other_sets_of_table_0211_have_a_codec_that_python_knows(name):
    assert b"MSH|PID".decode(codec(name) or "none") == "MSH|PID"


@pytest.mark.parametrize(
    "name", [b"", b"UTF-8", b"8859", b"8859/10", b"1", b"UNICODE UTF-16", b"CNS 11643-1992", b"\xff"]
)
def test_names_outside_the_table_have_no_codec(name):
    assert codec(name) is None
