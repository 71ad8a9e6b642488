"""A POCT1-A feed of the configuration: point-of-care devices that connect to this node as to their data manager."""

from typing import Annotated, Literal

from pydantic import AfterValidator

from hl7.devices.poct1a_conversation import Manners
from node.config.feeds import MIB, Feed
from node.config.kinds import Listen, Name, not_empty, whole


class Poct1a(Feed):
    """Devices that speak POCT1-A over TCP."""

    kind: Literal["poct1a"]
    listen: Annotated[tuple[Listen, ...], AfterValidator(not_empty)]
    # The device profile by which its results are read.
    profile: Name | Literal[""] = ""
    # basic: what waits in the device is fetched and the conversation ended. continuous: it stays connected and sends each result at once.
    mode: Literal["basic", "continuous"] = "basic"
    # The device's log of its own events, besides the results.
    events: bool = True
    # Some devices wait for an ACK of EOT.R01 although it needs none.
    acknowledge_end_of_topic: bool = False
    # A document holds one patient's results: some kB. With an image some hundred.
    message_mb_max: Annotated[int, whole(1, 64)] = 4
    # One connection a device; docks of a hospital.
    connections_max: Annotated[int, whole(1, 4096)] = 64
    # 0 = never: in continuous mode a device rests for days. In basic mode five minutes without a word are a dead dock.
    idle_s_max: Annotated[int, whole(0, 7 * 86400)] = 300

    @property
    def message_bytes_max(self) -> int:
        """Give the longest document, in bytes."""
        return self.message_mb_max * MIB

    @property
    def manners(self) -> Manners:
        """Give what the conversation turns on."""
        return Manners(
            continuous=self.mode == "continuous", asks_events=self.events, acknowledges_end_of_topic=self.acknowledge_end_of_topic
        )  # fmt: skip
