"""One broker's thread: connects, subscribes, hands over what comes, and acknowledges in the order received what was committed.

It drives paho's socket itself instead of having paho's own thread do it: an exception then ends this thread, and with it the process,
where paho's thread would end alone and `is_connected()` stay true. Nothing here stores or judges.
"""

import random
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from paho.mqtt.client import Client, MQTTMessage

from node.clock import Clock
from node.config.mqtt import Mqtt
from node.feeds.mqtt_broker import connect, make_client, refusal_of, subscribe
from node.feeds.mqtt_events import Arrival, Event, Held, Joined, Left, Subscribed, Trouble
from node.feeds.mqtt_slots import NO_SLOT, Fate, Slots
from node.feeds.rest import REST_S
from node.feeds.telemetry_errors import BrokerError
from sync.pace import Backoff

TURN_S = 1.0  # how often keep-alive and heartbeat are looked at
# With QoS 0 a broker sends without limit, and mosquitto 2.0.11, after a lost connection, with QoS 1 too: beyond so many that wait for the
# disk the socket is not read, and TCP holds the rest back.
WAITING_MAX = 1000
HEARTBEATS_MISSED_MAX = 3  # one may be late behind a burst; three are not
TAKEN_OVER_WAIT_S = 300.0  # another client has our id: a person must come, and two machines must not fight meanwhile
TAKEN_OVER_WAIT_S_MAX = 3600.0
TAKEN_OVER = 0x8E  # MQTT 5.0, 3.14.2.1: session taken over
# mosquitto 2.0.11 says nothing and just closes; so connections that it ends soon after they opened are counted. One or two are a restart.
SHORT_S = 30.0
SHORT_MAX = 3
STOP_S_MAX = 3.0  # for what is under way to be committed and acknowledged; what is not comes again
TOLD_MAX = 64  # arrivals that are handed over at once: more would wait for each other
QUIET_S = 0.05  # a broker that has more sends it within this
LOG_EVERY = 10  # of equal failures in a row: a broker may be down for weeks

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Connection:
    """What belongs to one connection alone, and dies with it."""

    number: int
    client: Client
    is_open: bool = False
    must_end: bool = False
    reason: int = 0
    error: BrokerError | None = None
    slots: Slots = field(default_factory=Slots)
    alive: float = 0.0  # when something last came through the broker
    beat: float = 0.0  # when our last heartbeat left


class MqttLink(threading.Thread):
    """Talks to one broker until stopped. `hear` is called with events from this thread, in their order, and must not block.

    `before`: the filters that the session may still have from an earlier configuration.
    """

    def __init__(
        self, feed: Mqtt, *, clock: Clock, hear: Callable[[list[Event]], None], before: tuple[str, ...]
    ) -> None:
        super().__init__(name=f"mqtt-{feed.name}", daemon=True)
        self._feed, self._clock, self._hear, self._before = feed, clock, hear, before
        self._pace = Backoff(random.random)
        self._inner, self._outer = socket.socketpair()
        for each in (self._inner, self._outer):
            each.setblocking(False)
        self._settled: deque[tuple[int, int, Fate]] = deque()
        self._released: deque[tuple[int, int]] = deque()
        self._stopping = threading.Event()
        self._events: list[Event] = []
        self._failures = self._takeovers = self._connections = self._short = 0
        self._fresh = 0  # arrivals since the socket was last empty
        self._rest_until = 0.0
        self._handed, self._answered = 0, 0  # one counter to a thread, so neither needs a lock
        self._lent, self._returned = 0, 0  # of these, what is to be acknowledged
        self.turned_at = clock.monotonic()  # for the watchdog

    # -- called from other threads ----------------------------------------------------------------------------------

    def settle(self, connection: int, number: int, fate: Fate) -> None:
        """Say what became of an arrival. Only one of the present connection is acknowledged."""
        self._answered += 1
        self._returned += number != NO_SLOT
        self._settled.append((connection, number, fate))
        self._poke()

    def release(self, connection: int, number: int) -> None:
        """Say that what a `Held` asked for is noted."""
        self._released.append((connection, number))
        self._poke()

    def stop(self) -> None:
        """End: take nothing more, acknowledge what is committed within a bounded time, leave the broker."""
        self._stopping.set()
        self._poke()

    @property
    def waiting(self) -> int:
        """How many arrivals wait for the disk."""
        return self._handed - self._answered

    @property
    def has_unsettled(self) -> bool:
        """Whether one that is to be acknowledged waits for the disk: with QoS 0 nothing is, and a steady flow of it is no sign of more."""
        return self._lent != self._returned

    def _poke(self) -> None:
        with suppress(BlockingIOError):  # it is awake already
            self._outer.send(b".")

    # -- the thread -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Connect again and again until stopped."""
        while not self._stopping.is_set():
            try:
                self._pause(self._connection())
            except BrokerError as error:
                self._failed(error)
        self._tell()

    def _connection(self) -> float:
        """One connection from its beginning to its end; how long to wait before the next. Raises BrokerError where it never opened."""
        self._connections += 1
        self._fresh, self._rest_until = 0, 0.0
        connection = Connection(number=self._connections, client=make_client(self._feed))
        self._listen_to(connection)
        connect(connection.client, self._feed)
        opened, deadline = self._clock.monotonic(), self._clock.monotonic() + self._feed.connect_s_max
        while (sock := connection.client.socket()) is not None and not connection.must_end:
            self._turn(connection, sock)
            if not self._fresh or len(self._events) >= TOLD_MAX:
                self._tell()
            self.turned_at = now = self._clock.monotonic()
            if not connection.is_open and now > deadline:
                connection.error = BrokerError("no CONNACK in time")
                break
            if self._takeovers and connection.is_open and now - opened > SHORT_S:
                self._takeovers = 0
                self._events.append(Trouble("MQT-15", is_over=True))
            if self._stopping.is_set():
                self._last_turns(connection)
                break
        connection.client.disconnect()
        if (sock := connection.client.socket()) is not None:
            sock.close()
        if connection.error is not None:
            raise connection.error
        return self._wait_after(connection, self._clock.monotonic() - opened)

    def _last_turns(self, connection: Connection) -> None:
        """Acknowledge what is still committed, and read until nothing comes: a socket that is closed with bytes in it is reset, and our last
        acknowledgements with it.
        """
        deadline = self._clock.monotonic() + STOP_S_MAX
        self._acknowledge(connection)  # what was released since the last turn
        while (
            not connection.must_end
            and (sock := connection.client.socket()) is not None
            and self._clock.monotonic() < deadline
        ):
            is_quiet = not _ready([sock], [], QUIET_S) and not getattr(sock, "pending", lambda: 0)()
            if is_quiet and connection.slots.is_settled:
                return
            self._turn(connection, sock)

    def _turn(self, connection: Connection, sock: Any) -> None:
        """Wait for the socket or for what was settled; acknowledge, read, write."""
        client = connection.client
        rest_s = 0.0 if self._stopping.is_set() else max(0.0, self._rest_until - self._clock.monotonic())
        is_deaf = self.waiting >= WAITING_MAX
        more = not is_deaf and getattr(sock, "pending", lambda: 0)() > 0  # TLS holds bytes that select does not see
        reads = [self._inner] if is_deaf or rest_s else [self._inner, sock]
        wait_s = 0.0 if more or self._fresh else rest_s or connection.slots.wait_s_max or TURN_S
        ready = _ready(reads, [sock] if client.want_write() else [], wait_s)
        if self._inner in ready:
            with suppress(BlockingIOError):
                while self._inner.recv(4096):
                    pass
        self._acknowledge(connection)
        if sock not in ready and not more:
            self._drained()
        elif client.loop_read():
            return
        if client.want_write() and client.loop_write():
            return
        if client.loop_misc() or not connection.is_open:
            return
        if is_deaf:
            connection.alive = self._clock.monotonic()  # nothing can be heard while nothing is read
        self._look_at_heartbeat(connection)

    def _drained(self) -> None:
        """All that had come is read. Where it was little, the next is left to the socket for a moment: one commit is then enough for some messages."""
        is_little, self._fresh = 0 < self._fresh < self._feed.receive_max // 2, 0
        if is_little:
            self._rest_until = (now := self._clock.monotonic()) + REST_S - now % REST_S

    def _acknowledge(self, connection: Connection) -> None:
        """Acknowledge what is committed; at the first that could not be stored, end the connection: then the broker sends again."""
        slots, now = connection.slots, self._clock.monotonic()
        while self._settled:
            of, number, fate = self._settled.popleft()
            if of == connection.number:  # never one of an older connection: its mid means another message now
                slots.settled(number, fate, now)
        while self._released:
            of, number = self._released.popleft()
            if of == connection.number:
                slots.release(number)
        for mid in slots.due():
            # a crash before this line: stored, not acknowledged; the broker sends it again, and the repeat is known
            connection.client.ack(mid, 1)
            self._pace.succeeded()
        connection.must_end = connection.must_end or slots.must_end
        if (held := slots.wanted(now)) is not None and not self._stopping.is_set():
            self._events.append(Held(connection=connection.number, number=held, is_stuck=slots.is_stuck))

    def _look_at_heartbeat(self, connection: Connection) -> None:
        every, now = self._feed.heartbeat_s, self._clock.monotonic()
        if not every or now - connection.beat < every:
            return
        if now - connection.alive > every * HEARTBEATS_MISSED_MAX:
            self._events.append(Trouble("MQT-16"))
            connection.must_end = True
            return
        connection.beat = now
        connection.client.publish(self._feed.own_topic, b"", qos=1)  # QoS 1: then a refusal is answered

    def _wait_after(self, connection: Connection, lasted_s: float) -> float:
        """How long to wait before the next connection: long, where another client has our id."""
        is_thrown_out = not connection.must_end and not self._stopping.is_set()
        self._short = self._short + 1 if is_thrown_out and lasted_s < SHORT_S else 0
        if connection.reason == TAKEN_OVER or self._short >= SHORT_MAX:
            self._takeovers, self._short = self._takeovers + 1, 0
            self._events.append(Trouble("MQT-15"))
            log.warning("mqtt.taken_over", code="MQT-15", feed=self._feed.name, times=self._takeovers)
            return min(TAKEN_OVER_WAIT_S_MAX, TAKEN_OVER_WAIT_S * 2.0 ** min(self._takeovers - 1, 8))
        return self._pace.failed()

    def _failed(self, error: BrokerError) -> None:
        if self._failures % LOG_EVERY == 0:
            log.warning(
                "mqtt.failed", code=error.code, feed=self._feed.name, detail=str(error), failures=self._failures + 1
            )
        self._failures += 1
        self._events.append(Trouble(error.code))
        self._pause(self._pace.failed())

    def _pause(self, seconds: float) -> None:
        self._tell()
        until = self._clock.monotonic() + seconds
        while not self._stopping.is_set() and (left := until - self._clock.monotonic()) > 0:
            self.turned_at = self._clock.monotonic()
            self._stopping.wait(min(left, TURN_S))

    def _tell(self) -> None:
        if self._events:
            events, self._events = self._events, []
            arrivals = [event for event in events if isinstance(event, Arrival)]
            self._handed += len(arrivals)
            self._lent += sum(arrival.number != NO_SLOT for arrival in arrivals)
            self._hear(events)

    # -- what paho calls, from within loop_read ---------------------------------------------------------------------

    def _listen_to(self, connection: Connection) -> None:
        client = connection.client
        client.on_connect = lambda _client, _data, flags, reason, _more: self._on_connect(connection, flags, reason)
        client.on_disconnect = lambda _client, _data, _flags, reason, _more: self._on_disconnect(connection, reason)
        client.on_message = lambda _client, _data, message: self._on_message(connection, message)
        client.on_subscribe = lambda _client, _data, _mid, reasons, _more: self._on_subscribe(reasons)
        client.on_publish = lambda _client, _data, _mid, reason, _more: self._on_publish(reason)

    def _on_connect(self, connection: Connection, flags: Any, reason: Any) -> None:
        if reason.is_failure:
            connection.error, connection.must_end = refusal_of(reason), True
            return
        connection.is_open = True
        connection.alive = connection.beat = self._clock.monotonic()
        self._failures = 0
        self._events.append(Joined(at_us=self._clock.now_us(), present=flags.session_present))
        subscribe(connection.client, self._feed, self._before if flags.session_present else ())
        if self._feed.heartbeat_s:
            connection.client.publish(self._feed.own_topic, b"", qos=1)

    def _on_disconnect(self, connection: Connection, reason: Any) -> None:
        connection.reason = reason.value
        if connection.is_open:
            connection.is_open = False
            self._events.append(Left(at_us=self._clock.now_us(), reason=str(reason)))

    def _on_subscribe(self, reasons: list[Any]) -> None:
        self._before = ()
        is_granted = not any(reason.is_failure for reason in reasons)
        self._events += [Subscribed(is_granted), Trouble("MQT-17", is_over=is_granted)]

    def _on_publish(self, reason: Any) -> None:
        if reason.is_failure:
            self._events.append(Trouble("MQT-17"))

    def _on_message(self, connection: Connection, message: MQTTMessage) -> None:
        """Only put: whatever is wrong with a message is judged in the event loop."""
        connection.alive = self._clock.monotonic()
        self._fresh += 1
        if self._stopping.is_set():
            return  # read and forgotten: it comes again
        topic = _topic_of(message)
        number = connection.slots.arrived(message.mid, message.qos)
        if topic == self._feed.own_topic:
            connection.slots.settled(number, Fate.PASSED, connection.alive)
            self._events.append(Trouble("MQT-16", is_over=True))
            return
        self._events.append(
            Arrival(
                connection=connection.number, number=number, mid=message.mid, qos=message.qos, dup=message.dup, retained=message.retain,
                topic=topic, payload=bytes(message.payload), content_type=str(getattr(message.properties, "ContentType", "")),
            )
        )  # fmt: skip


def _ready(reads: list[Any], writes: list[Any], wait_s: float) -> list[Any]:
    """Those of `reads` from which something can be read; returns early where one of `writes` can be written. select() knows no descriptor above 1023."""
    poll = select.poll()
    for sock in {*reads, *writes}:
        poll.register(sock, (select.POLLIN if sock in reads else 0) | (select.POLLOUT if sock in writes else 0))
    seen = {descriptor for descriptor, event in poll.poll(wait_s * 1000) if event & ~select.POLLOUT}
    return [sock for sock in reads if sock.fileno() in seen]


def _topic_of(message: MQTTMessage) -> str:
    """Its topic; one that is no UTF-8, which some brokers pass on, is on no list and is refused like any other such."""
    try:
        return str(message.topic)
    except UnicodeDecodeError:
        return bytes(message._topic).decode("utf-8", "backslashreplace")  # noqa: SLF001  # paho gives it no other way
