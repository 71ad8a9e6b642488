"""One record of the outbox, as a person asks for it: its facts, never its content, and what its signatures are worth now."""

import asyncio
from collections.abc import Iterator

from node.clock import SYNCHRONISED, Clock, iso
from node.config.config import Config
from node.data_folder import STORE_NAME
from node.signatures.check import Checker, Finding
from sync.header import CONDITIONS, REFUSAL, SIGNATURES, Header, decode, decode_particulars
from sync.outbox_view import OutboxView
from sync.record import Record


def find(config: Config, stream: str, epoch: int, seq: int) -> Record | None:
    """The record at a position, or None. Raises apsw's errors and SyncError where the outbox cannot be read."""
    view = OutboxView(config.node.data_dir / STORE_NAME, config.node.name)
    try:
        for each in view.streams():
            if (each.origin.stream, each.origin.epoch) == (stream, epoch) and 0 <= seq < each.size:
                return next(iter(view.table(each.log).records(seq, 1)), None)
        return None
    finally:
        view.close()


def lines(config: Config, record: Record, clock: Clock) -> Iterator[str]:
    """What is told of it. Its signatures are verified anew, by the authorities of today, as of when it came."""
    if not record.header:
        yield "the record's header is lost; its leaf alone stands in the log"
        return
    header = decode(record.header)
    particulars = decode_particulars(record.particulars)
    yield f"{header.kind.word}, {header.verdict.word}: {header.content_type} {header.message_type}"
    yield f"feed {header.feed}, received {iso(header.received_us)}, {header.body_bytes} bytes"
    if REFUSAL in particulars:
        yield "refused: " + " ".join(map(str, particulars[REFUSAL]))
    marks = particulars.get(SIGNATURES, [])
    for kind, place, result in marks:
        yield f"signature {kind} at byte {place}: {result or 'not verified'} when it came"
    if not marks:
        yield "no signature was seen"
    elif not record.body:
        yield "the body is gone: its signatures cannot be verified here any more"
    elif config.signatures is None:
        yield "no authorities are configured: [signatures] names none"
    else:
        found = asyncio.run(
            _verify(config, header, record.body, _content_type(header, particulars.get(CONDITIONS, "")), clock)
        )
        yield from (_line(each) for each in found or ())
        if not found:
            yield "not verified now: no answer in time, or nothing that could be verified"


def _line(found: Finding) -> str:
    what = (
        f" over the {found.covers}"
        if found.covers in {"document", "body"}
        else f" over {found.covers}"
        if found.covers
        else ""
    )
    return f"signature{found.kind and f' {found.kind}'}{what}: {found.result} now{f' ({found.why})' if found.why else ''}{found.notes and f'; {found.notes}'}"


def _content_type(header: Header, conditions: str) -> str:
    """With its parameters, where it came over HTTP."""
    said = [line.partition(": ")[2] for line in conditions.split("\n") if line.startswith("content-type: ")]
    return said[0] if said else header.content_type


async def _verify(config: Config, header: Header, body: bytes, content_type: str, clock: Clock) -> list[Finding] | None:
    if config.signatures is None:
        return None
    checker = Checker(config.signatures.authorities, clock)
    try:
        # as it was judged then: a clock that nobody kept decides about no certificate (promise 7)
        time_us = header.received_us if header.clock_state == SYNCHRONISED else None
        return await checker.check_of(time_us, body, content_type)
    finally:
        await checker.stop()
