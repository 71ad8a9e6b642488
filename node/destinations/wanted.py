"""What of its streams is for whatever the outbox is carried to: a destination's messages, the application replies of a feed, or what its queries ask for."""

from node.config.destinations import AnyDestination
from node.config.replies import OrdersOut, RepliesOut
from node.destinations.conversion import Tally, ToV2
from node.destinations.orders import Queries
from node.destinations.replies import Replies
from node.destinations.selection import Selection
from node.orders.law_desk import LawDesk


def selection_of(
    destination: AnyDestination | RepliesOut, tally: Tally | None = None, *, of_any_type: bool = False, orders: LawDesk | None = None
) -> Selection:  # fmt: skip
    """Its selection. `of_any_type`: whatever was for it once, when its types may have been others. `tally` counts what becomes of FHIR.

    `orders`: those of a running core, for an analyzer's listener.
    """
    if isinstance(destination, OrdersOut):
        return Queries(destination, orders)
    if isinstance(destination, RepliesOut):
        return Replies(destination)
    back = None
    if destination.kind == "mllp" and destination.convert == "v2":
        back = ToV2(destination, tally or Tally())
    return Selection(() if of_any_type else destination.types, back)
