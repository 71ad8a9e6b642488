"""Builds what leads out of the box: from the configuration to a thread for each lane that has streams."""

import random
from pathlib import Path

from node.alarms import Alarms
from node.clock import Clock
from node.config import Config, Gateway
from node.dictionaries import shipped
from node.gateway_client import GatewayClient
from node.highwater import HighWater
from node.keystore import Keystore
from node.lane import Lane
from node.lanes import Lanes
from node.link_turns import LinkTurns, SessionDesk
from node.sockets import Way
from node.uplink import Uplink
from node.writer import Writer
from sync.lanes import ROUTINE
from sync.outbox_view import OutboxView


def make_lanes(
    config: Config,
    *,
    keystore: Keystore,
    writer: Writer,
    clock: Clock,
    alarms: Alarms,
    boot: bytes,
    store: Path,
    highwater: HighWater,
) -> Lanes | None:
    """The uplink of this node, not yet started; None where the link is off. The outbox must be open already."""
    gateway = config.gateway
    if gateway is None:
        return None
    view = OutboxView(store, config.node.name)
    lane_of = {stream.origin.stream: stream.lane for stream in view.streams()}
    view.close()
    turns, desk = LinkTurns(clock.monotonic), SessionDesk(clock.monotonic)
    uplinks = [
        Uplink(
            node=config.node.name, gateway=gateway.name, store=store,
            lane=Lane(name, _client(gateway, name, keystore), turns, desk, clock.monotonic),
            keystore=keystore, writer=writer, clock=clock, alarms=alarms, boot=boot, dice=random.SystemRandom().random,
            shelf=shipped(), highwater=highwater,
        )
        for name in sorted(set(lane_of.values()) or {ROUTINE})
    ]  # fmt: skip
    return Lanes(uplinks, turns, lane_of.__getitem__)


def _client(gateway: Gateway, lane: str, keystore: Keystore) -> GatewayClient:
    return GatewayClient(
        gateway.url, gateway.name, keystore.tls(), connect_s_max=gateway.connect_s_max, answer_s_max=gateway.answer_s_max,
        way=Way(dscp=gateway.dscp.of(lane), mss=gateway.mss_max),
    )  # fmt: skip
