"""Where one XML document ends and the next begins, however their bytes come."""

import random
from xml.parsers import expat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7.devices.xml_documents import Broken, Divider, Document, Flaw
from tests.poct1a_rig import MIB, RESULT

NAMES = st.sampled_from(["a", "OBS.R01", "HDR", "x-y"])
TEXTS = st.sampled_from(["", "نص", "a > b", "]]&gt;", "-- ?>", "&#60;"])


@st.composite
def elements(draw, depth=0):
    name = draw(NAMES)
    values = "".join(
        f" v{number}={quote}{draw(st.sampled_from(['', '>', '/>', chr(39), chr(34), '</a>', '<!--'])).replace(quote, '').replace('<', '&lt;')}{quote}"
        for number, quote in enumerate(draw(st.lists(st.sampled_from(["'", '"']), max_size=3)))
    )
    if draw(st.booleans()):
        return f"<{name}{values}/>"
    inside = draw(
        st.lists(
            st.one_of(
                TEXTS,
                st.sampled_from(["<!-- </a> > -->", "<![CDATA[</a><b>]]]]>", "<?p </a> ?>", "<!---->"]),
                *([elements(depth + 1)] if depth < 3 else []),
            ),
            max_size=4,
        )
    )
    return f"<{name}{values}>{''.join(inside)}</{name}>"


@given(st.lists(elements(), min_size=1, max_size=4), st.sampled_from(["", "\r\n", " "]), st.data())
def test_any_cut_into_pieces_gives_the_documents_that_were_sent(documents, between, data):
    raw = [text.encode() for text in documents]
    stream = between.encode().join(raw)
    divider, found, rest = Divider(MIB), [], stream
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        found += divider.feed(rest[:size])
        rest = rest[size:]
    assert found == [Document(each) for each in raw]
    assert divider.end() is None
    for each in raw:
        expat.ParserCreate().Parse(each, True)  # other people's XML agrees that each is a whole one


@given(st.binary(max_size=300), st.data())
def test_no_bytes_make_it_raise_and_pieces_change_nothing(data, draw):
    whole = Divider(200)
    events = whole.feed(data)
    pieces, divider, rest = [], Divider(200), data
    while rest:
        size = draw.draw(st.integers(1, len(rest)))
        pieces += divider.feed(rest[:size])
        rest = rest[size:]
    events += [last] if (last := whole.end()) else []
    pieces += [last] if (last := divider.end()) else []
    assert [each.flaw if isinstance(each, Broken) else each for each in pieces] == [
        each.flaw if isinstance(each, Broken) else each for each in events
    ]


@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_a_document_longer_than_the_bound_is_refused_however_it_comes(size):
    data, divider, found = b"<a/><b>" + b"x" * 200 + b"</b>", Divider(100), []
    for at in range(0, len(data), size):
        found += divider.feed(data[at : at + size])
    assert [each.flaw if isinstance(each, Broken) else each.raw for each in found] == [b"<a/>", Flaw.TOO_LONG]


@pytest.mark.parametrize("flaw", [b"<!DOCTYPE x>", b"<!-x", b"<![CDATX", b"<!x"])
def test_a_declaration_behind_the_bound_is_no_declaration_but_too_long_however_it_comes(flaw):
    seen = set()
    for blanks in range(60, 110):
        raw = b"<a>" + b"x" * blanks + flaw + b"y" * 100
        whole, bytewise = Divider(100), Divider(100)
        (one,) = whole.feed(raw)
        (other,) = [each for n in range(len(raw)) for each in bytewise.feed(raw[n : n + 1])]
        assert one.flaw is other.flaw, blanks
        seen.add(one.flaw)
    assert seen == {Flaw.DECLARATION, Flaw.TOO_LONG}


def test_random_xml_like_bytes_never_make_it_raise_and_never_hold_more_than_their_bound():
    dice = random.Random(9)
    for _ in range(1000):
        divider = Divider(500)
        for _ in range(dice.randrange(1, 30)):
            divider.feed(
                b"".join(
                    dice.choice(
                        (b"<", b">", b"/", b"a", b"'", b'"', b"!--", b"-->", b"![CDATA[", b"]]>", b"?", b" ", b"\xff")
                    )
                    for _ in range(40)
                )
            )
            assert len(divider._held) <= 500
        divider.end()


@pytest.mark.parametrize(
    ("data", "flaw"),
    [
        (b"<a>" + b"x" * 600, Flaw.TOO_LONG),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', Flaw.DECLARATION),
        (b"<a/>" + b"<!ENTITY", Flaw.DECLARATION),
        (b"</a>", Flaw.UNBALANCED),
        (b"<a>" * 70, Flaw.UNBALANCED),
    ],
)
def test_what_cannot_be_divided_ends_the_stream(data, flaw):
    divider = Divider(500)
    assert divider.feed(data)[-1].flaw is flaw
    assert divider.feed(RESULT) == []


def test_a_document_cut_off_is_told_at_the_end():
    divider = Divider(500)
    assert divider.feed(b"<a><b>") == []
    assert divider.end() == Broken(Flaw.CUT_OFF, b"<a><b>")


def test_bytes_between_documents_are_counted_as_noise_and_skipped():
    divider = Divider(MIB)
    assert divider.feed(b"\x06\x06 hello \r\n<a/>\x04<b/>") == [Document(b"<a/>"), Document(b"<b/>")]
    assert divider.noise_bytes == 8


def test_a_drip_of_single_bytes_costs_no_more_than_the_bytes():
    """Each byte of an unfinished comment is looked at a bounded number of times: counted, not timed."""

    class Counted(bytearray):
        looked = 0

        def find(self, what, start=0):
            Counted.looked += len(self) - start
            return super().find(what, start)

    divider = Divider(MIB)
    divider._held = Counted()
    for byte in b"<a><!-- " + b"x" * 20_000:
        divider.feed(bytes([byte]))
    assert Counted.looked < 20_000 * 8
