"""A profile whose serial line no port can be: named at the start of whatever feed names it."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from node.config.astm import Astm
from node.config.modbus import Modbus
from node.errors import CannotListen
from node.feeds.astm import AstmFeed
from node.feeds.modbus import ModbusFeed
from node.feeds.telemetry_errors import ProfileBad

NOW_US = 1_900_000_000_000_000
OWN = 'title = "t"\nsource = "s"\nkind = "{0}"\n[serial]\nbaud = 9601\n[device]\nmanufacturer = "m"\nmodel = "m"\nsubject = "device"\n'


@pytest.mark.parametrize("kind", ["astm", "modbus"])
def test_a_profile_whose_line_no_port_can_be_is_named_at_the_start(tmp_path, kind):
    more = '[[point]]\ncode = "a"\naddress = 0\n' if kind == "modbus" else ""
    (tmp_path / "own.toml").write_text(OWN.format(kind) + more)
    around: Any = SimpleNamespace(
        clock=SimpleNamespace(now_us=lambda: NOW_US),
        alarms=None,
        boot="b" * 32,
        die=None,
        profiles=tmp_path,
        frame_store=None,
        writer=None,
    )
    table = {"name": "x", "kind": kind, "serial": {"port": "/dev/ttyS0"}}

    async def start():
        if kind == "astm":
            AstmFeed(Astm.model_validate({**table, "profile": "own"}), None, None, around)  # type: ignore[arg-type]  # it never comes to storing
        feed = ModbusFeed(
            Modbus.model_validate({**table, "devices": [{"name": "a", "unit": 1, "profile": "own"}]}), None, None, around  # type: ignore[arg-type]  # as above
        )  # fmt: skip
        await feed.start()

    with pytest.raises((CannotListen, ProfileBad), match="baud"):
        asyncio.run(start())
