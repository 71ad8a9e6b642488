"""The SOAP feed: one address over HTTP, for other people's IHE XDS.b sources and older clients."""

from collections import Counter
from typing import Any

from node.alarms import Alarms
from node.clock import Clock
from node.config.soap import Soap
from node.feeds.http_access import Access
from node.feeds.http_connection import HttpConnection
from node.feeds.http_plug import HttpPlug
from node.feeds.http_workshop import Workshop
from node.feeds.soap_app import SoapApp, fault_before_envelope
from node.feeds.soap_wsdl import described
from node.intake import Door, Intake


class SoapConnection(HttpConnection):
    """A connection whose refusal of what is no HTTP is a fault."""

    def _refusal(self, text: str) -> tuple[str, bytes]:
        return fault_before_envelope(text)


class SoapFeed(HttpPlug):
    """One configured SOAP source."""

    def __init__(
        self, feed: Soap, door: Door, intake: Intake, *, clock: Clock, alarms: Alarms, facility: str, workshop: Workshop
    ) -> None:
        del facility  # the door knows it
        super().__init__(
            feed,
            door,
            intake,
            clock=clock,
            alarms=alarms,
            workshop=workshop,
            serve=SoapApp(self),
            connection=SoapConnection,
            path=feed.path,
        )
        self.feed = feed
        self.access = Access(feed, audience="", clock=clock)
        self.actions = frozenset(feed.actions)
        self.understood = feed.understood
        self.signed: Counter[str] = Counter()

    def described(self, host: str) -> bytes:
        """Its WSDL; `host`: what the client calls this machine."""
        return described(scheme=self.scheme, host=host, path=self.feed.path, address=self.addresses()[0])

    def facts(self) -> dict[str, Any]:
        """What only its kind has to tell."""
        return {"actions": sorted(self.actions), "signatures": dict(self.signed)}
