"""What judges the campaign of flipped bits: the gateway's own receiver over logs in memory, against what was stored."""

from node.uplink.gateway_client import Problem
from sync import batch
from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.errors import BadBatch
from sync.held import HeldLog, rewind_members
from sync.keys import Verifier
from sync.log import Frontier
from sync.log_keys import LogKeys
from sync.receipt import cosign
from sync.receiver import Admitted, Append, PutAsked, Receipt, Receiver, Refuse
from sync.record import BodyState
from tests.sim_realm import COSIGNER, LOG_SIGNER, NODE, MemoryLog

VERIFIER = Verifier(NODE, LOG_SIGNER.public)
KNOWN = Admitted(boot="1" * 32, fence="fence", earlier=frozenset(), held=False)


class Violation(Exception):
    """Something that must never be."""


class Centre:
    """The gateway's judge over logs in memory; compares what it takes with what was stored."""

    def __init__(self, truth, *, of_his: int = 0) -> None:
        """`of_his`: so many records of that stream are here already."""
        self._receiver, self._truth = Receiver(COSIGNER), truth
        self._leaves = {name: MemoryLog() for name in truth}
        self._leaves["his"].hashes += [record.leaf for record in truth["his"].records[:of_his]]
        self.held = {name: self._begin(made.origin, self._leaves[name].hashes) for name, made in truth.items()}
        self.bodies = 0

    @staticmethod
    def _begin(origin, hashes) -> HeldLog:
        """A log that is here up to there, under the note that was receipted then: a batch that brings nothing more is answered with it."""
        frontier = Frontier().append(b"".join(hashes))
        note = sign_checkpoint(Checkpoint(origin, frontier.size, frontier.root), LOG_SIGNER) if hashes else b""
        return HeldLog(origin=origin, frontier=frontier, note=cosign(note, time=1, signer=COSIGNER) if note else b"")

    def put(self, *, stream, epoch, first, fence, body):
        try:
            made = batch.decode(body)
        except BadBatch:
            return Problem("bad-batch", {}, 0.0)
        event = PutAsked(
            node=NODE, origin_stream=stream, epoch=epoch, first=first, fence=fence, known=KNOWN, held=self.held.get(stream),
            leaves=self._leaves.get(stream, MemoryLog()), keys=LogKeys(in_force=VERIFIER), batch=made,
        )  # fmt: skip
        for effect in self._receiver.handle(event, 1):
            match effect:
                case Append():
                    self._compare(stream, effect.records)
                    self.held[stream] = HeldLog(origin=effect.origin, frontier=effect.after, note=effect.note)
                    self._leaves[stream].hashes += [record.leaf for record in effect.records]
                case Receipt(note):
                    return note
                case Refuse():
                    members = rewind_members(effect.held) if effect.code == "rewind" else {}
                    return Problem(effect.code, members, 0.0)
        raise AssertionError("no answer")

    def close(self) -> None:
        """As a client."""

    def _compare(self, stream, records) -> None:
        for record in records:
            true = self._truth[stream].records[record.seq]
            if record.leaf != true.leaf:
                raise Violation(f"{stream} {record.seq}: another leaf was receipted")
            if record.state is BodyState.PRESENT and record != true:
                raise Violation(f"{stream} {record.seq}: an altered record was receipted")
            self.bodies += record.state is BodyState.PRESENT
