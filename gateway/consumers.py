"""What a consumer is given: nodes, logs, records as lines of JSON, and evidence. Blocking reads, page by page; no HTTP here."""

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from cryptography import x509

from gateway.errors import NoEvidence
from gateway.identity import ValidityList
from gateway.ledger_keys import COSIGN, LOG
from gateway.ledger_view import LedgerView, LogView
from sync.certificates import der, read
from sync.checkpoint import Note, NoteSignature, parse_note
from sync.errors import SyncError
from sync.evidence import Evidence
from sync.header import CONTROL_ID, decode, decode_particulars
from sync.record import BodyState, Record
from sync.store import damage

log = structlog.get_logger()
EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Positions first..end-1 of one log that are still to be listed."""

    log: int
    epoch: int
    first: int
    end: int


class Consumers:
    """Reads of the ledger as the outside interface words them. LookupError: there is no such node, stream, epoch or record."""

    def __init__(self, view: LedgerView, *, anchor: x509.Certificate, validity: ValidityList) -> None:
        self._view, self._validity = view, validity
        self._anchor = der(anchor)

    def nodes(self) -> list[dict[str, Any]]:
        """All nodes."""
        return [
            {"name": node.name, "held": node.held, "admitted_at": moment(node.admitted_us), "streams": node.logs}
            for node in self._view.nodes()
        ]

    def streams(self, node: str) -> list[dict[str, Any]]:
        """The node's logs, each epoch by itself."""
        return [
            {
                "stream": log.origin.stream, "epoch": log.origin.epoch, "tag": log.origin.tag, "lane": log.lane, "size": log.frontier.size,
                "root": log.frontier.root.hex(), "held": log.held, "at_node": log.at_node,
                "announced_at": moment(log.announced_us) if log.announced_us else "",
                "receipt_at": moment(log.receipt_at * 1_000_000) if log.receipt_at else "",
            }
            for log in self._logs(node, None)
        ]  # fmt: skip

    def spans(self, node: str, stream: str, *, epoch: int | None, first: int) -> list[Span]:
        """What is to be listed as of now; `first` counts in the first epoch of it."""
        logs = [log for log in self._logs(node, stream) if epoch in {None, log.origin.epoch}]
        if not logs:
            raise LookupError("no such epoch")
        return [
            Span(log=log.log, epoch=log.origin.epoch, first=0 if n else min(first, log.frontier.size), end=log.frontier.size)
            for n, log in enumerate(logs)
        ]  # fmt: skip

    def lines(self, span: Span, *, most: int, release: bool) -> tuple[list[bytes], int]:
        """The next lines of a span, at most so many, and the position after them. Held records need the right to release."""
        page = self._view.page(span.log, span.first, span.end)
        lines: list[bytes] = []
        for record in page.records:
            if len(lines) == most:
                return lines, record.seq
            held = record.seq in page.held
            if release or not held:
                lines.append(line(verified(record, span.log), span.epoch, held=held))
        return lines, page.next if page.records else span.end

    def evidence(self, node: str, stream: str, *, epoch: int, seq: int, release: bool) -> bytes:
        """The evidence file of one record. Raises NoEvidence where it cannot be proved now."""
        log = next((log for log in self._logs(node, stream) if log.origin.epoch == epoch), None)
        found = None if log is None else self._view.record(log.log, seq, log.frontier.size)
        if log is None or found is None or (found[1] and not release):
            raise LookupError("no such record")
        record, proof = verified(found[0], log.log), found[2]
        if not record.header:
            raise NoEvidence("the header of this record is lost: only its leaf is known")
        validity = self._validity.data
        if not validity:
            raise NoEvidence("no validity list is configured")
        note, log_certificate, cosign_certificate = self._signed(log)
        whole = record.state is BodyState.PRESENT
        return Evidence(
            header=record.header, salt=record.salt if whole else None, particulars=record.particulars if whole else None,
            body=record.body if whole else None, seq=seq, proof=tuple(proof), note=note, log_certificate=log_certificate,
            cosign_certificate=cosign_certificate, chain=(), validity=validity, anchor=self._anchor,
        ).encode()  # fmt: skip

    def _signed(self, log: LogView) -> tuple[bytes, bytes, bytes]:
        """The head's note with one signature of the node and the receipt, and the certificates that were valid for both keys at the receipt.

        Where the head covers a change of the log key first, both keys signed it; the new one is the better witness, as the old may be taken back.
        """
        note = parse_note(log.note)
        *mine, receipt = note.signatures
        cosign = self._valid(receipt, COSIGN, log.receipt_at)
        for signature in reversed(mine):
            if cosign and (found := self._valid(signature, LOG, log.receipt_at)):
                return Note(note.text, (signature, receipt)).encode(), found, cosign
        raise NoEvidence("no certificate of the node, or none of the gateway, was valid at the receipt")

    def _valid(self, signature: NoteSignature, role: str, at: int) -> bytes:
        """A certificate for the key of this signature that was valid then; empty where there is none."""
        kept = self._view.certificates(signature.name, role, signature.key_id)
        return next((found for found in kept if _valid_at(found, at)), b"")

    def _logs(self, node: str, stream: str | None) -> list[LogView]:
        logs = self._view.logs(node, stream)
        if not logs and (stream is not None or node not in {found.name for found in self._view.nodes()}):
            raise LookupError("no such node or stream")
        return logs


def verified(record: Record, log_row: int) -> Record:
    """The record as far as it still is what its leaf says: a flipped bit of the ledger's disk shows as damage, and reaches nobody as content."""
    lost = damage(record)
    if lost is None:
        return record
    log.error("record.damaged", log=log_row, seq=record.seq, lost=lost.word)
    return record.without_body(lost)


def line(record: Record, epoch: int, *, held: bool) -> bytes:
    """One record as a line of JSON. Where the header is lost only its position and leaf are known."""
    shown: dict[str, Any] = {
        "epoch": epoch, "seq": record.seq, "kind": "", "received_at": "", "content_type": "", "type": "", "control_id": "", "verdict": "",
        "body": base64.b64encode(record.body).decode(), "leaf": record.leaf.hex(), "state": record.state.word, "held": held,
    }  # fmt: skip
    if record.header:
        header = decode(record.header)
        shown |= {
            "kind": header.kind.word, "received_at": moment(header.received_us), "content_type": header.content_type,
            "type": header.message_type, "control_id": _control_id(record.particulars), "verdict": header.verdict.word,
        }  # fmt: skip
    return json.dumps(shown).encode() + b"\n"


def moment(us: int) -> str:
    """UTC microseconds as ISO 8601 with microseconds and Z; empty for a time beyond the calendar's."""
    try:
        return (EPOCH_START + timedelta(microseconds=us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    except OverflowError:
        return ""


def _control_id(particulars: bytes) -> str:
    try:
        found = decode_particulars(particulars).get(CONTROL_ID, "")
    except SyncError:  # particulars are the node's: the gateway passes them on unread
        return ""
    return found if isinstance(found, str) else ""


def _valid_at(certificate: bytes, at: int) -> bool:
    found = read(certificate)
    return found.not_valid_before_utc.timestamp() <= at <= found.not_valid_after_utc.timestamp()
