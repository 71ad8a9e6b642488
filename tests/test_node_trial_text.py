"""What `wasl feed test` says of the text of a file's messages: files in UTF-16 are read, and values that are no good text are named."""

import tomllib
from pathlib import Path

import pytest

from node.config.config import load
from node.feeds.trial import NOTES_MAX, judge, messages_in
from tests.test_hl7_text import NAME, message

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "node.toml"


@pytest.fixture
def feed(tmp_path):
    table = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    name = next(each["name"] for each in table["feeds"] if each["kind"] == "mllp")
    return next(each for each in load(EXAMPLE).feeds if each.name == name)


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("ends", ["\r", "\n", "\r\n"])
def test_the_messages_of_a_file_in_utf_16_are_found(codec, ends):
    both = [message(NAME), message("x")]
    assert messages_in(b"".join(both).decode().replace("\r", ends).encode(codec)) == both


def test_values_that_are_no_good_text_are_named_with_their_path(feed):
    raw = message(rb"a\q\b^\Zx\ ^" + b"\xd3\xcc", declared="UNICODE UTF-8")
    (judged,) = judge(feed, raw)
    notes = [line.strip() for line in judged.lines()][-3:]
    assert [note.split(":")[0] for note in notes] == ["OBX-5.1", "OBX-5.2", "OBX-5.3"]
    assert notes[2] == "OBX-5.3: bytes that are no text in this character set"
    assert len(judge(feed, message(b"~".join([b"\xff"] * 50)))[0].notes) == NOTES_MAX
    assert judge(feed, message(NAME))[0].notes == ()
    assert judge(feed, b"MSHello")[0].notes == ()
