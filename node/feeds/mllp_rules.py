"""What a feed's configuration says of its messages: which are taken, to which stream they go, which are tests."""

from hl7.check import Outcome, Rules, Verdict
from hl7.message import header, is_test
from hl7.routing import Rule, choose
from hl7.separators import read_separators
from node.config.feeds import Check, Mllp


def rules_of(feed: Mllp) -> Rules:
    """The rules of a feed, compiled."""
    routes = tuple(
        Rule(types=rule.types, senders=rule.senders, when=tuple(rule.when.items()), stream=rule.stream)
        for rule in feed.routes
    )
    if feed.signatures == "required":  # what has no room for a signature has none
        routes = (Rule(types=(), senders=(), when=(), stream=""),)
    return compile_check(feed.check, routes)


def compile_check(check: Check, routes: tuple[Rule, ...] = ()) -> Rules:
    """The rules of a table `check`, compiled."""
    return Rules(
        senders=check.senders, types=check.types, versions=check.versions, processing_ids=check.processing_ids, required=check.required,
        charset=check.charset, charset_default=check.charset_default, routes=routes,
    )  # fmt: skip


def way_of(raw: bytes, verdict: Verdict, feed: Mllp, rules: Rules, *, is_trial: bool) -> tuple[str, bool]:
    """To which stream a message goes (empty: the feed's own), and whether it is a test. What is refused stays in the feed's own stream."""
    route = verdict.facts.route if verdict.facts else None
    if is_trial or (route is not None and is_test(route)):
        return feed.test_stream, True
    if route is None or not rules.routes or verdict.outcome is Outcome.REJECTED:
        return "", False
    rule = choose(raw, route, read_separators(header(raw)), rules.routes)
    return (rule.stream if rule is not None and rule.stream != feed.stream else ""), False
