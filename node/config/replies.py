"""Replies on a connection of their own, and orders that an analyzer asked for: each feed with them is one more thing that the outbox is carried to."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from hl7.asked import Setting
from node.config.destinations import ClientTls, Destination, MllpOut
from node.config.feeds import Feed, Mllp
from node.config.problems import Problem, Source
from node.config.toml_lines import Place

SUFFIX = "-replies"
ORDERS = "-orders"


class RepliesOut(MllpOut):
    """The listener of one feed's sender; made of the feed, never a table of the file. `name` is a feed's with SUFFIX, so a little longer than a name."""

    name: str
    feed: str
    setting: Setting


class OrdersOut(MllpOut):
    """The listener of an analyzer that asks on a feed; made of the feed, as RepliesOut."""

    name: str
    feed: str


def replies_of(feeds: Sequence[Feed]) -> list[RepliesOut | OrdersOut]:
    """Those of the feeds that have one."""
    made: list[RepliesOut | OrdersOut] = []
    for each in feeds:
        if not isinstance(each, Mllp):
            continue
        if each.application_reply_to is not None:
            made.append(
                RepliesOut(
                    name=each.name + SUFFIX, feed=each.name, setting=each.acknowledgement, streams=_streams(each), kind="mllp",
                    address=each.application_reply_to, tls=each.application_reply_tls,
                )
            )  # fmt: skip
        if each.orders_to is not None:
            made.append(
                OrdersOut(
                    name=each.name + ORDERS, feed=each.name, streams=_streams(each), kind="mllp", address=each.orders_to, tls=each.orders_tls
                )
            )  # fmt: skip
    return made


def _streams(feed: Mllp) -> tuple[str, ...]:
    """Wherever a message of the feed may lie."""
    names = (feed.stream, *(rule.stream for rule in feed.routes), feed.test_stream)
    return tuple(dict.fromkeys(name for name in names if name))


def contradictions_of_replies(
    feeds: Sequence[Feed], destinations: Sequence[Destination], source: Source
) -> Iterator[Problem]:
    """Replies that would go two ways or none, orders that nobody asks for, a name that is taken, halves of a key pair."""
    taken = {each.name for each in destinations}
    for position, feed in enumerate(feeds):
        if not isinstance(feed, Mllp):
            continue
        place: Place = ("feeds", position)
        yield from _of_replies(feed, source, place)
        yield from _of_orders(feed, source, place)
        for key, suffix in (("application_reply_to", SUFFIX), ("orders_to", ORDERS)):
            if getattr(feed, key) is not None and feed.name + suffix in taken:
                yield source.problem((*place, key), f'needs the name "{feed.name}{suffix}", which a destination has')
        for key, tls in _tls_of(feed):
            if (tls.certificate is None) is not (tls.key is None):
                yield source.problem((*place, key), "certificate and key belong together")


def _of_replies(feed: Mllp, source: Source, place: Place) -> Iterator[Problem]:
    if feed.application_reply_to is None:
        if feed.application_reply_tls is not None:
            yield source.problem((*place, "application_reply_tls"), "is of no use without application_reply_to")
        return
    key = (*place, "application_reply_to")
    if feed.application_reply:
        yield source.problem(key, "and application_reply cannot both be: one connection or the other")
    if feed.acknowledgement == "original":
        yield source.problem(key, "is of no use: original mode has no application reply")


def _of_orders(feed: Mllp, source: Source, place: Place) -> Iterator[Problem]:
    if feed.orders == "none":
        for key in ("orders_to", "orders_tls"):
            if getattr(feed, key) is not None:
                yield source.problem((*place, key), 'is of no use without orders = "query"')
    elif feed.orders_to is None:
        yield source.problem((*place, "orders"), "needs orders_to, where the analyzer listens for its orders")
    elif feed.application_reply_to is not None:
        yield source.problem(
            (*place, "orders"), "and application_reply_to cannot both be: a query is answered where it came"
        )
    elif feed.sequence_numbers != "ignored":
        yield source.problem((*place, "orders"), "and sequence_numbers cannot both be")


def _tls_of(feed: Mllp) -> Iterator[tuple[str, ClientTls]]:
    for key in ("application_reply_tls", "orders_tls"):
        if (tls := getattr(feed, key)) is not None:
            yield key, tls


def files_of_feeds(feeds: Sequence[Feed]) -> Iterator[tuple[Place, Path]]:
    """Every file that they name for their replies and samples, with where it is named."""
    for position, feed in enumerate(feeds):
        if not isinstance(feed, Mllp):
            continue
        if feed.profile is not None:
            yield ("feeds", position, "profile"), feed.profile
        for table, tls in _tls_of(feed):
            for key in ("ca", "certificate", "key"):
                if file := getattr(tls, key):
                    yield ("feeds", position, table, key), file
