"""The MQTT feed: judges what a broker's thread hands over, has it stored, and tells the thread what may be acknowledged."""

import asyncio
import hashlib
import secrets
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import structlog

from hl7.devices.gaps import Gap, Stretch
from hl7.devices.mqtt_errors import MaybeRepeated, TopicNotListed, TopicTooLong
from hl7.devices.own_identity import identity_of
from hl7.devices.profile_errors import ProfileProblem
from hl7.devices.topics import TOPIC_CHARACTERS_MAX, matches, widest
from node.clock import iso
from node.config.mqtt import CONTENT_TYPES, Mqtt, Topic
from node.devices.profiles import marked
from node.errors import EXIT_THREAD, CannotListen, QueueFull
from node.feeds.gap_store import GapStore
from node.feeds.kinds import Surroundings
from node.feeds.mqtt_events import Arrival, Event, Held, Joined, Left, Subscribed, Trouble
from node.feeds.mqtt_link import MqttLink
from node.feeds.mqtt_session import Session, read, write
from node.feeds.mqtt_slots import Fate
from node.feeds.plug import watch_over
from node.feeds.unsettled import SESSION_BYTES, Unsettled
from node.intake import Counted, Door, Intake, Refusal
from node.writer import Outcome
from sync.header import PROFILE, TOPIC
from sync.outbox import Outbox, Stored
from sync.record import Kind, Verdict

LOOK_S = 5.0  # how often the thread is looked at, and what could not be told is told
SILENT_S_MAX = (
    180.0  # the thread's longest step: a name that does not resolve, a connection and a TLS handshake that time out
)
STOP_S_MAX = (
    5.0  # for the last acknowledgements, which have 3 s; a thread that hangs longer in a connection has none to give
)
LOST_OVER_S = 60.0  # without a further loss, and with something stored: there may be room now and none again
ALIVE_S = 600.0  # how often the session's file says that it still lives: 144 writes a day
UNREACHED = ("MQT-10", "MQT-11", "MQT-12", "MQT-13")  # over as soon as a connection is open
RULES_MAX = (
    4096  # topics whose rule is remembered: a large site has hundreds; a stranger's millions must not fill memory
)

log = structlog.get_logger()


class MqttFeed:
    """One configured broker."""

    noise_bytes = 0  # MQTT has none

    def __init__(self, feed: Mqtt, door: Door, intake: Intake, around: Surroundings) -> None:
        self.feed, self.door, self._intake = feed, door, intake
        self._topics, self._profiles = _read_with_profiles(feed, around.profiles)
        self._clock, self._alarms, self._die = around.clock, around.alarms, around.die
        self._file = around.folder / f"mqtt-{feed.name}.json"
        self._facts = {"qos0": 0, "retained": 0, "lost_qos0": 0, "sessions_lost": 0, "joined": 0}
        self._session = "none"
        self._since_us = around.clock.now_us()
        self._connected = self._subscribed = False
        self._rules: dict[str, Topic | None] = {}
        self._unsettled = Unsettled(feed.name, boot=around.boot)
        self._gaps = GapStore(door, intake, peer=feed.broker)
        self._newest = 0, 0, 0  # connection, number and place of the message with QoS 1 that was stored last
        self._lost = Stretch(subject="qos-0", boot=around.boot[:8])
        self._lost_at, self._is_room_again = 0.0, False
        self._known: Session | None = None
        self._link: MqttLink | None = None
        self._noting: Future[None] | None = None  # that a held message may be acknowledged
        self._is_ending = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watch: asyncio.Task[None] | None = None
        self._writer = around.writer

    # -- what the core asks of a plug -------------------------------------------------------------------------------

    @property
    def connections(self) -> list[str]:
        """The broker, while it is connected."""
        return [self.feed.broker] if self._connected else []

    def addresses(self) -> list[str]:
        """Where it goes to."""
        return [self.feed.broker]

    async def start(self) -> None:
        """Begin to connect; a broker that is not there is no reason not to start."""
        self._loop = loop = asyncio.get_running_loop()
        await asyncio.wrap_future(
            self._writer.order(lambda outbox: self._unsettled.load(outbox.facts(f"{self._unsettled.prefix}*")))
        )
        known = await asyncio.to_thread(read, self._file)
        if known is not None and (known.broker, known.client_id) == (self.feed.broker, self.feed.client_id):
            self._known = known
        self._link = MqttLink(
            self.feed, clock=self._clock, hear=self._hear_in_loop, before=self._known.filters if self._known else ()
        )
        self._link.start()
        self._watch = loop.create_task(self._look())
        watch_over(self._watch, self.feed.name, self._die)

    async def stop(self) -> None:
        """Take nothing more; what is committed is acknowledged."""
        if self._watch is not None:
            self._watch.cancel()
        self._is_ending = True
        if self._noting is not None:  # of what is noted and not acknowledged nobody could tell whether it comes again
            await asyncio.wait({asyncio.wrap_future(self._noting)}, timeout=STOP_S_MAX)
        if self._link is not None:
            self._link.stop()
            await asyncio.to_thread(self._link.join, STOP_S_MAX)
        if self._connected:
            await self._remember()
        self._loop = None  # a thread that hangs in a connection dies with the process, and nobody hears it any more

    def facts(self) -> dict[str, Any]:
        """How it is with the broker, and the last gap."""
        return {
            "broker": {
                "connected": self._connected, "subscribed": self._subscribed, "since": iso(self._since_us), "session": self._session,
                "tls": self.feed.is_secure, "queue": 0 if self._link is None else self._link.waiting, **self._facts,
            },
            "gap": self._gaps.document(self._lost),
        }  # fmt: skip

    # -- what the thread tells --------------------------------------------------------------------------------------

    def _hear_in_loop(self, events: list[Event]) -> None:
        if (loop := self._loop) is not None:
            loop.call_soon_threadsafe(self._hear, events)

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Arrival():
                    self._take(event)
                case Joined():
                    self._joined(event)
                case Held():
                    self._note(event)
                case Left():
                    self._connected, self._subscribed, self._since_us = False, False, event.at_us
                    log.info("mqtt.left", feed=self.feed.name, reason=event.reason)
                    self._remember_soon()
                case Subscribed(is_granted):
                    self._subscribed = is_granted
                case Trouble(code, is_over):
                    if not is_over:
                        self.door.counts.last_error = (code, self._clock.now_us())
                    (self._alarms.cleared if is_over else self._alarms.raised)(code, self.feed.name)

    def _joined(self, event: Joined) -> None:
        self._connected, self._since_us = True, event.at_us
        self._facts["joined"] += 1
        for code in UNREACHED:
            self._alarms.cleared(code, self.feed.name)
        expected = self._known is not None
        self._session = "resumed" if event.present else "lost" if expected else "new"
        log.info("mqtt.joined", feed=self.feed.name, session=self._session)
        if event.present:
            self._unsettled.resume()
        else:
            session, fact = secrets.token_bytes(SESSION_BYTES), self._unsettled.session_fact
            self._unsettled.begin(session)
            # an order goes before every draft that is submitted after it
            self._writer.order(lambda outbox: _keep_fact(outbox, fact, session))
        if self._known is not None and not event.present:
            self._facts["sessions_lost"] += 1
            self._alarms.raised("MQT-14", self.feed.name)
            self.door.counts.last_error = ("MQT-14", event.at_us)
            self._gaps.tell(
                Gap(subject="session", part="once", first_us=self._known.alive_us, last_us=event.at_us, count=0, codes={"MQT-14": 1})
            )  # fmt: skip
        elif event.present:
            self._alarms.cleared("MQT-14", self.feed.name)
        self._remember_soon()

    def _take(self, arrival: Arrival) -> None:
        """Have one message stored; its outcome goes back to the thread."""
        if arrival.retained and self.feed.retained == "ignored":
            self._settle(arrival, Fate.PASSED)
            return
        self._facts["qos0"] += arrival.qos == 0
        self._facts["retained"] += arrival.retained
        rule, refusal = self._judge(arrival.topic)
        content_type, stream, members = _meaning(rule, arrival)
        digest = hashlib.sha256(arrival.topic.encode() + b"\0" + arrival.payload).digest()[:8]
        identity = identity_of(arrival.payload, members)
        # one with an identity of its own has its place among those that come again, too
        named = self._unsettled.name(arrival.mid, digest, is_dup=arrival.dup)
        if named.is_doubtful and not identity and refusal is None:
            refusal = Refusal(code=MaybeRepeated.code)

        def answer(outcome: Outcome | QueueFull | Counted) -> None:
            fate = (
                Fate.STORED
                if isinstance(outcome, Stored)
                else Fate.PASSED
                if isinstance(outcome, Counted)
                else Fate.LOST
            )
            if fate is Fate.LOST and not arrival.qos:
                self._lose(outcome)
            self._is_room_again = self._is_room_again or fate is Fate.STORED
            if fate is Fate.STORED and arrival.qos:  # what is never acknowledged is never the one held
                self._newest = arrival.connection, arrival.number, named.place
            self._settle(arrival, fate)

        self._intake.store_typed(
            self.door, common=self.door.common(Kind.MESSAGE, content_type), body=arrival.payload, message_type="retained" if arrival.retained else "",
            control_id=f"{identity} {digest.hex()}" if identity else named.text, peer=self.feed.broker, verdict=_verdict(refusal), refusal=refusal,
            answer=answer,
            stream="" if stream == self.door.stream else stream, source=self._source(arrival, rule),
            fact=named.fact,
        )  # fmt: skip

    def _source(self, arrival: Arrival, rule: Topic | None) -> list[tuple[int, object]]:
        """What else a record says: its topic, and which profile says what its payload means."""
        told: list[tuple[int, object]] = [(TOPIC, arrival.topic[:TOPIC_CHARACTERS_MAX])]
        mark = self._profiles.get(rule.filter) if rule else None
        return [*told, (PROFILE, mark)] if mark else told

    def _judge(self, topic: str) -> tuple[Topic | None, Refusal | None]:
        """The rule of a topic; or why it is refused."""
        if len(topic) > TOPIC_CHARACTERS_MAX:
            return None, Refusal(code=TopicTooLong.code)
        if topic not in self._rules:
            if len(self._rules) >= RULES_MAX:
                self._rules.clear()
            self._rules[topic] = next((rule for rule in self._topics if matches(rule.filter, topic)), None)
        rule = self._rules[topic]
        return rule, None if rule else Refusal(code=TopicNotListed.code)

    def _settle(self, arrival: Arrival, fate: Fate) -> None:
        if self._link is not None:
            self._link.settle(arrival.connection, arrival.number, fate)

    def _note(self, held: Held) -> None:
        """Note that all that is stored may be acknowledged, then have it acknowledged; not where something came meanwhile."""
        link = self._link
        if link is None or self._is_ending or link.has_unsettled or self._newest[:2] != (held.connection, held.number):
            return
        fact = self._unsettled.release(0 if held.is_stuck else self._newest[2])

        def noted(future: Future[None]) -> None:
            if future.exception() is None:
                link.release(held.connection, held.number)

        self._noting = self._writer.order(lambda outbox: _keep_fact(outbox, *fact))
        self._noting.add_done_callback(noted)

    def _lose(self, outcome: object) -> None:
        """Note a message that no broker will send again."""
        self._facts["lost_qos0"] += 1
        self._alarms.raised("MQT-18", self.feed.name)
        code = getattr(outcome, "code", "NOD-10")
        self._lost_at, self._is_room_again = self._clock.monotonic(), False
        if gap := self._lost.failed(code, at_us=self._clock.now_us(), now=self._clock.monotonic()):
            self._gaps.tell(gap, self._lost)

    # -- the rounds -------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """See that the thread turns, tell what could not be told, and keep the session's file fresh."""
        remembered = self._clock.monotonic()
        while True:
            await asyncio.sleep(LOOK_S)
            now = self._clock.monotonic()
            link = self._link
            if link is not None and (not link.is_alive() or now - link.turned_at > SILENT_S_MAX):
                log.critical("mqtt.thread_hangs", feed=self.feed.name)
                self._die(EXIT_THREAD)
            self._gaps.again()
            self._end_loss(now)
            if gap := self._lost.due(now):
                self._gaps.tell(gap, self._lost)
            if self._connected and now - remembered > ALIVE_S:
                remembered = now
                await self._remember()

    def _end_loss(self, now: float) -> None:
        """Messages with QoS 0 are lost no more: the gap that they are is over."""
        if self._lost.count and self._is_room_again and now - self._lost_at >= LOST_OVER_S:
            if gap := self._lost.ended():
                self._gaps.tell(gap, self._lost)
            self._alarms.cleared("MQT-18", self.feed.name)

    def _remember_soon(self) -> None:
        """Write the session's file, without holding up the loop."""
        self._note_alive()
        if self._loop is not None and self._known is not None:
            self._loop.run_in_executor(None, self._write, self._known)

    async def _remember(self) -> None:
        self._note_alive()
        if self._known is not None:
            await asyncio.to_thread(self._write, self._known)

    def _note_alive(self) -> None:
        self._known = Session(
            broker=self.feed.broker, client_id=self.feed.client_id, filters=(*widest(topic.filter for topic in self.feed.topics), self.feed.own_topic),
            alive_us=self._clock.now_us(),
        )  # fmt: skip

    def _write(self, session: Session) -> None:
        try:
            write(self._file, session)
        except OSError as error:  # a full disk: a lost session is then dated too early, and still seen
            log.warning("mqtt.session_not_written", feed=self.feed.name, error=type(error).__name__)


def _read_with_profiles(feed: Mqtt, folder: Path | None) -> tuple[tuple[Topic, ...], dict[str, tuple[str, bytes]]]:
    """The rules as their profiles complete them, and of each filter what its records say of the profile. Raises CannotListen."""
    topics, marks = [], {}
    for topic in feed.topics:
        name = feed.profile_of(topic)
        if not name:
            topics.append(topic)
            continue
        try:
            profile, marks[topic.filter] = marked(name, folder)
            topics.append(topic.with_profile(profile))
        except (ProfileProblem, ValueError) as error:
            raise CannotListen(f"feed {feed.name}: profile {name}: {error}") from error
    return tuple(topics), marks


def _verdict(refusal: Refusal | None) -> Verdict:
    if refusal is None:
        return Verdict.ACCEPTED
    return Verdict.ACCEPTED_WITH_WARNING if refusal.code == MaybeRepeated.code else Verdict.REJECTED


def _keep_fact(outbox: Outbox, name: str, value: bytes) -> None:
    with outbox.transaction():
        outbox.set_fact(name, value)


def _meaning(rule: Topic | None, arrival: Arrival) -> tuple[str, str, tuple[str, ...]]:
    """Content type, stream and identifying members of a message."""
    told = arrival.content_type.lower()
    if rule is None:
        return "application/octet-stream", "", ()
    return told if told in CONTENT_TYPES else rule.content_type, rule.stream, rule.identity
