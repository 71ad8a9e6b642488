"""Application replies on a connection of their own: each feed that has them is one more thing that the outbox is carried to."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from hl7.asked import Setting
from node.config_destinations import Destination, MllpOut
from node.config_feeds import Feed, Mllp
from node.config_problems import Problem, Source
from node.toml_lines import Place

SUFFIX = "-replies"


class RepliesOut(MllpOut):
    """The listener of one feed's sender; made of the feed, never a table of the file. `name` is a feed's with SUFFIX, so a little longer than a name."""

    name: str
    feed: str
    setting: Setting


def replies_of(feeds: Sequence[Feed]) -> list[RepliesOut]:
    """Those of the feeds that have one."""
    return [
        RepliesOut(
            name=each.name + SUFFIX, feed=each.name, setting=each.acknowledgement, streams=_streams(each), kind="mllp",
            address=each.application_reply_to, tls=each.application_reply_tls,
        )
        for each in feeds if isinstance(each, Mllp) and each.application_reply_to is not None
    ]  # fmt: skip


def _streams(feed: Mllp) -> tuple[str, ...]:
    """Wherever a message of the feed may lie."""
    names = (feed.stream, *(rule.stream for rule in feed.routes), feed.test_stream)
    return tuple(dict.fromkeys(name for name in names if name))


def contradictions_of_replies(
    feeds: Sequence[Feed], destinations: Sequence[Destination], source: Source
) -> Iterator[Problem]:
    """Replies that would go two ways or none, a name that is taken, halves of a key pair."""
    taken = {each.name for each in destinations}
    for position, feed in enumerate(feeds):
        if not isinstance(feed, Mllp):
            continue
        place: Place = ("feeds", position, "application_reply_to")
        tls = feed.application_reply_tls
        if feed.application_reply_to is None:
            if tls is not None:
                yield source.problem(
                    ("feeds", position, "application_reply_tls"), "is of no use without application_reply_to"
                )
            continue
        if feed.application_reply:
            yield source.problem(place, "and application_reply cannot both be: one connection or the other")
        if feed.acknowledgement == "original":
            yield source.problem(place, "is of no use: original mode has no application reply")
        if feed.name + SUFFIX in taken:
            yield source.problem(place, f'needs the name "{feed.name}{SUFFIX}", which a destination has')
        if tls is not None and (tls.certificate is None) is not (tls.key is None):
            yield source.problem(("feeds", position, "application_reply_tls"), "certificate and key belong together")


def files_of_feeds(feeds: Sequence[Feed]) -> Iterator[tuple[Place, Path]]:
    """Every file that they name for their replies and samples, with where it is named."""
    for position, feed in enumerate(feeds):
        if isinstance(feed, Mllp) and feed.profile is not None:
            yield ("feeds", position, "profile"), feed.profile
        if isinstance(feed, Mllp) and (tls := feed.application_reply_tls) is not None:
            for key in ("ca", "certificate", "key"):
                if file := getattr(tls, key):
                    yield ("feeds", position, "application_reply_tls", key), file
