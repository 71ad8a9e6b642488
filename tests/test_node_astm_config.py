"""An ASTM feed's configuration: one way in, the profile's switches under the feed's own, mistakes told in a technician's words."""

import pytest

from hl7.devices.astm_events import Switches
from node.config.astm import Astm


def feed(**keys):
    return Astm.model_validate({"name": "xn", "kind": "astm", **keys})


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({}, "needs one of"), ({"listen": ["127.0.0.1:4010"], "connect": "127.0.0.1:4011"}, "needs one of"),
        ({"connect": "127.0.0.1:0"}, "must name a port"), ({"listen": ["127.0.0.1:1"], "frame_text_bytes_max": 64_000}, "from 1 to 63993"),
        ({"listen": ["127.0.0.1:1"], "terminator": "never"}, "'required' or 'optional'"), ({"serial": {"port": "/dev/ttyUSB0"}}, "is a number that another adapter"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_words(keys, text):
    with pytest.raises(ValueError, match=text):
        feed(**keys)


def test_without_a_profile_the_line_is_the_standards():
    assert feed(listen=["127.0.0.1:1"]).switches == Switches()


def test_a_feeds_own_keys_win_over_its_profiles():
    made = feed(listen=["127.0.0.1:1"], frame_end="crlf").with_profile(
        {"frame_end": "cr", "terminator": "optional", "unknown": 1}
    )
    assert (made.frame_end, made.terminator) == ("crlf", "optional")


def test_a_profiles_bad_switch_is_refused():
    with pytest.raises(ValueError, match="frame_end"):
        feed(listen=["127.0.0.1:1"]).with_profile({"frame_end": "lf"})


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ({"connect": "127.0.0.1:4011"}, "127.0.0.1:4011"),
        ({"serial": {"port": "/dev/serial/by-id/x"}}, "/dev/serial/by-id/x"),
    ],
)
def test_the_page_is_told_where_it_is(keys, place):
    assert feed(**keys).places == (place,)
