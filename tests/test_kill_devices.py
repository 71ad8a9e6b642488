"""Eight kills of a node with a feed of every kind. `make sim` does a thousand."""

import random

from tests.mqtt_rig import needs_mosquitto
from tests.sim_kill_devices import DeviceLoop

KILLS = 8


@needs_mosquitto
def test_after_eight_kills_the_gateway_holds_all_that_any_device_was_told_once_and_in_its_order(tmp_path, capsys):
    summary = DeviceLoop(tmp_path, KILLS, random.SystemRandom().randrange(2**32), report=lambda _: None).run()
    with capsys.disabled():
        print(f"\n{summary}")
