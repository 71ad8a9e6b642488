"""Which records go in one call: as many as fill the lane's quantum, whatever their bodies are made of."""

from contextlib import closing
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from node.alarms import Alarms
from node.uplink.lane import SLACK, Lane
from node.uplink.own_logs import OwnLogs
from node.uplink.uplink import Uplink
from sync.outbox_view import OutboxView
from sync.sender_events import Put
from tests.outbox_rig import outbox
from tests.sim_realm import LOG_SIGNER, NODE, STREAM, draft


@pytest.mark.parametrize("large_at", [0, 1, 2, 5])
def test_a_batch_whose_first_bodies_are_the_large_ones_is_cut_until_it_holds_the_link_no_longer_than_a_quantum(
    tmp_path, large_at
):
    """The average says little where one body does not compress and all others do."""
    quantum, dice = 14_400, Random(1)
    lane: Any = Lane(
        "routine", {}, SimpleNamespace(quantum=lambda _lane: quantum), None, SimpleNamespace(current=None), lambda: 0.0
    )  # type: ignore[arg-type]
    alarms: Any = Alarms(lambda: 0)
    with closing(outbox(tmp_path)) as made:
        bodies = [b"MSH|%d|" % n + b"NTE|as ever|" * 250 for n in range(40)]
        bodies[large_at] = dice.randbytes(40_000)
        made.append([draft(n, body=body) for n, body in enumerate(bodies)])
        with closing(OutboxView(tmp_path / "outbox.db", NODE)) as view:
            logs, ours = OwnLogs(view, list, alarms), made.heads[STREAM].origin
            logs.read()
            uplink = Uplink(
                node=NODE, gateway="centre", store=tmp_path / "outbox.db", lane=lane, keystore=SimpleNamespace(signer=LOG_SIGNER), writer=None,
                clock=SimpleNamespace(now_us=lambda: 0), alarms=alarms, boot=b"", dice=lambda: 0.5, highwater=None,
            )  # fmt: skip
            at, sent = 0, []
            while at < len(bodies):
                records, _, _, packed = uplink._fitting(Put(ours, at, 512, 2**20), logs)
                assert len(packed) <= quantum * SLACK or [record.seq for record in records] == [large_at]
                at += len(records)
                sent.append(len(records))
    assert len(sent) <= 6  # and no message goes by itself for it, but the large one
