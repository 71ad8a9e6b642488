"""What is said to the gateway besides batches: sessions, roots and opening statements, with their answers read into events."""

import structlog

from node.clock import Clock
from node.errors import AnswerUnreadable
from node.keystore import Keystore
from node.uplink.gateway_client import Problem
from node.uplink.lane import Lane
from sync.announced import HEADS_MAX
from sync.certificates import check_chain, gateway_of, read, verifier_of
from sync.errors import SyncError
from sync.key_ring import KeyRing
from sync.keys import Verifier
from sync.outbox_view import OutboxView, StreamView
from sync.sender_events import AskRoot, EpochTaken, Event, PostEpoch, Refused, RootTold, SessionOpened
from sync.session import OwnStream, SessionRequest, read_answer, read_receipt, read_taken, read_their, read_told

log = structlog.get_logger()


class Conversation:
    """Calls of one uplink but its batches. Raises LinkError for every failure of the path."""

    def __init__(self, lane: Lane, keystore: Keystore, gateway: str, clock: Clock) -> None:
        self._lane, self._keystore, self._gateway, self._clock = lane, keystore, gateway, clock

    def session(self, view: OutboxView, boot: bytes) -> Event:
        """Ask for a session under this start's id, and say where the logs end that wait."""
        streams = view.streams()
        request = SessionRequest(
            boot=boot.hex(), boots=tuple(boot.hex() for boot in view.boots()), fence=(view.fact("fence") or b"").decode(),
            log_certificate=self._keystore.log_certificate_pem(), earlier_certificates=KeyRing.of(self._keystore.signer).earlier_certificates,
            streams=tuple(
                OwnStream(stream=s.origin.stream, epoch=s.origin.epoch, tag=s.origin.tag, lane=s.lane) for s in _first_of_each(streams)
            ),
            heads=tuple(s.checkpoint for s in _last_of_each(streams) if s.waiting)[:HEADS_MAX],
        )  # fmt: skip
        found = self._lane.client.session(request.encode())
        if isinstance(found, Problem):
            return refused("", found)
        try:
            answer = read_answer(found)
            cosigner = self._cosigner(answer.cosign_certificate)
        except SyncError as error:
            raise AnswerUnreadable(str(error)) from error
        return SessionOpened(answer, cosigner)

    def _cosigner(self, pem: str) -> Verifier:
        certificate = read(pem.encode())
        check_chain(certificate, (), self._keystore.anchor, at=self._clock.now_us() // 1_000_000)
        if gateway_of(certificate, "cosign") != self._gateway:
            raise SyncError("the cosigning certificate names another gateway")
        return verifier_of(certificate, self._gateway)

    def ask(self, call: AskRoot | PostEpoch, fence: str) -> Event:
        """Ask for a root, or hand over an opening statement."""
        try:
            if isinstance(call, AskRoot):
                question, stream = call.question, call.stream
                found = self._lane.put(
                    0, lambda: self._lane.client.root(stream=stream, epoch=question.epoch, size=question.size)
                )
                return refused(stream, found) if isinstance(found, Problem) else RootTold(stream, read_told(found))
            stream = call.origin.stream
            opening = call.opening
            found = self._lane.put(
                len(opening), lambda: self._lane.client.epoch(stream=stream, fence=fence, statement=opening)
            )
            if isinstance(found, Problem):
                return refused(stream, found)
            return EpochTaken(stream, read_taken(found, stream), read_receipt(found))
        except SyncError as error:
            raise AnswerUnreadable(str(error)) from error


def refused(stream: str, problem: Problem) -> Event:
    """A verdict that is no success, as the sender hears it. Raises AnswerUnreadable."""
    members, theirs = problem.members, None
    log.info("link.refused", answer=problem.code, stream=stream)
    if problem.code == "rewind":
        try:
            theirs = read_their({**members, "stream": stream})
        except SyncError as error:
            raise AnswerUnreadable("a rewind that does not say where to") from error
    window = members.get("window")
    return Refused(
        stream, problem.code, theirs, problem.wait_s, window if isinstance(window, int) and window > 0 else 0
    )


def _last_of_each(streams: list[StreamView]) -> list[StreamView]:
    """Each stream's newest log."""
    return list({each.origin.stream: each for each in streams}.values())


def _first_of_each(streams: list[StreamView]) -> list[StreamView]:
    """Each stream's oldest log: where the gateway has none of the stream, it begins with that."""
    return list({each.origin.stream: each for each in reversed(streams)}.values())
