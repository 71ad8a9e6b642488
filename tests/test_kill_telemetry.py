"""Six kills of a node that hears a broker and polls a line. `make sim` does a thousand."""

import random

from tests.mqtt_rig import needs_mosquitto
from tests.sim_kill_telemetry import TelemetryLoop

KILLS = 6


@needs_mosquitto
def test_after_six_kills_the_gateway_holds_each_published_message_once_and_each_poll_or_its_gap(tmp_path, capsys):
    summary = TelemetryLoop(tmp_path, KILLS, random.SystemRandom().randrange(2**32), report=lambda _: None).run()
    with capsys.disabled():
        print(f"\n{summary}")
