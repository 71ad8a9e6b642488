"""Builds what leads out of the box: from the configuration to a thread for each lane that has something to say."""

import random
from pathlib import Path

from node.alarms import Alarms
from node.clock import Clock
from node.config.config import Config, Gateway, PathOut
from node.keystore import Keystore
from node.sockets import Way
from node.uplink.dictionaries import shipped
from node.uplink.gateway_client import GatewayClient
from node.uplink.highwater import HighWater
from node.uplink.lane import Lane
from node.uplink.lanes import Lanes
from node.uplink.link_turns import LinkTurns, SessionDesk
from node.uplink.path_switch import PathSwitch
from node.uplink.uplink import Uplink
from node.writer import Writer
from sync.lanes import CRITICAL, ROUTINE
from sync.outbox_view import OutboxView
from sync.paths import Path as Route

DIRECT = "direct"  # the one path of a configuration without a list


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
    paths = gateway.paths or (PathOut(name=DIRECT),)
    switch = PathSwitch(
        [Route(name=path.name, metered=path.metered) for path in paths], clock.monotonic, on_change=turns.forget
    )

    lanes = set(lane_of.values()) or {ROUTINE}
    if any(path.metered for path in paths):
        lanes.add(
            CRITICAL
        )  # there it alone asks for sessions, which say what waits in the others: so also without a stream of its own

    def clients(lane: str) -> dict[str, GatewayClient]:
        return {path.name: _client(gateway, path, lane, keystore) for path in paths}

    uplinks = [
        Uplink(
            node=config.node.name, gateway=gateway.name, store=store, lane=Lane(name, clients(name), turns, desk, switch, clock.monotonic),
            keystore=keystore, writer=writer, clock=clock, alarms=alarms, boot=boot, dice=random.SystemRandom().random,
            shelf=shipped(), highwater=highwater,
        )
        for name in sorted(lanes)
    ]  # fmt: skip
    switch.start_probing(clients(ROUTINE))
    return Lanes(uplinks, turns, switch, lane_of.__getitem__)


def _client(gateway: Gateway, path: PathOut, lane: str, keystore: Keystore) -> GatewayClient:
    way = Way(
        dscp=gateway.dscp.of(lane), interface=path.interface, source=path.source, mss=path.mss_max or gateway.mss_max
    )
    return GatewayClient(
        path.url or gateway.url, gateway.name, keystore.tls(), connect_s_max=gateway.connect_s_max, answer_s_max=gateway.answer_s_max, way=way
    )  # fmt: skip
