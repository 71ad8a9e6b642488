"""The core's /metrics: read from the counters there are, at the moment somebody asks."""

from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from node.destinations.site import Site
from node.feeds.plug import Plug
from node.uplink.lanes import Lanes
from node.writer import Writer


class CoreMetrics(Collector):
    """Feeds, writer, uplink and destinations as Prometheus metrics. Labels: feed, outcome, lane, path, destination."""

    def __init__(self, feeds: Iterable[Plug], writer: Writer, uplink: Lanes | None, site: Site | None = None) -> None:
        self._feeds, self._writer, self._uplink, self._site = list(feeds), writer, uplink, site
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Read all counters."""
        messages = CounterMetricFamily("wasl_messages", "Messages by feed and outcome", labels=["feed", "outcome"])
        octets = CounterMetricFamily("wasl_message_bytes", "Body bytes taken", labels=["feed"])
        connections = GaugeMetricFamily("wasl_connections", "Open connections", labels=["feed"])
        for feed in self._feeds:
            counts: Any = feed.door.counts
            for outcome in ("accepted", "warned", "rejected", "refused", "repeated"):
                messages.add_metric([feed.feed.name, outcome], getattr(counts, outcome))
            octets.add_metric([feed.feed.name], counts.octets)
            connections.add_metric([feed.feed.name], len(feed.connections))
        yield from (messages, octets, connections)
        # where the core does not answer, the page's process does in its place, with 0
        yield GaugeMetricFamily("wasl_core_up", "1 while the core answers", value=1)
        yield CounterMetricFamily("wasl_commits", "Group commits", value=self._writer.groups)
        yield CounterMetricFamily("wasl_commit_records", "Records in group commits", value=self._writer.records)
        yield GaugeMetricFamily("wasl_writer_queue", "Messages waiting for the disk", value=self._writer.queued())
        if self._site is not None:
            yield from _destinations(self._site)
        if self._uplink is not None:
            link = self._uplink.link
            yield CounterMetricFamily("wasl_link_calls", "Calls to the gateway", value=link.calls)
            yield CounterMetricFamily("wasl_link_bytes", "Bytes of batches sent", value=link.octets_sent)
            yield CounterMetricFamily("wasl_link_records", "Records sent, repeats included", value=link.records_sent)
            yield GaugeMetricFamily(
                "wasl_link_up", "1 while the last call was answered with a receipt", value=int(link.state == "up")
            )
            yield from self._lanes(self._uplink)

    def _lanes(self, uplink: Lanes) -> Iterable[Metric]:
        up = GaugeMetricFamily("wasl_lane_up", "As wasl_link_up, of one lane", labels=["lane"])
        octets = CounterMetricFamily("wasl_lane_bytes", "Bytes of batches sent, by lane", labels=["lane"])
        for name, link in uplink.lanes().items():
            up.add_metric([name], int(link.state == "up"))
            octets.add_metric([name], link.octets_sent)
        paths = GaugeMetricFamily("wasl_path_in_use", "1 for the path in use", labels=["path"])
        for name, in_use in uplink.paths().items():
            paths.add_metric([name], int(in_use))
        yield from (up, octets, paths)
        if (goodput := uplink.goodput()) is not None:
            yield GaugeMetricFamily("wasl_link_goodput_bytes_per_second", "Measured width of the link", value=goodput)


def _destinations(site: Site) -> Iterable[Metric]:
    messages = CounterMetricFamily(
        "wasl_destination_messages", "Messages by destination and outcome", labels=["destination", "outcome"]
    )
    up = GaugeMetricFamily("wasl_destination_up", "1 while it takes what it is sent", labels=["destination"])
    parked = GaugeMetricFamily(
        "wasl_destination_parked", "Messages and records that it did not take", labels=["destination"]
    )
    values = CounterMetricFamily(
        "wasl_destination_unmapped_values",
        "Values of converted messages that the result does not hold",
        labels=["destination"],
    )
    for name, found in site.document().items():
        values.add_metric([name], found["conversion"]["unmapped"])
        for outcome in ("taken", "refused", "failed", "lost"):
            messages.add_metric([name, outcome], found[outcome])
        messages.add_metric([name, "converted"], found["conversion"]["converted"])
        up.add_metric([name], int(found["state"] == "up"))
        parked.add_metric([name], found["parked"])
    yield from (messages, up, parked, values)
