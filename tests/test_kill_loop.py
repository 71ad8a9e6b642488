"""Sixty kills of node and gateway under load. `make sim` does two thousand."""

import random

from tests.sim_kill import KillLoop

KILLS = 60


def test_after_sixty_kills_of_node_or_gateway_the_gateway_holds_exactly_the_acknowledged_messages_in_order_once(
    tmp_path, capsys
):
    seed = random.SystemRandom().randrange(2**32)
    summary = KillLoop(tmp_path, KILLS, seed).run()
    with capsys.disabled():
        print(f"\n{summary}")
