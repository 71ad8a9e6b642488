"""What a stick brings home: receipts, verified and stored, and the gateway's answers, on which exports and further epochs go."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from node.clock import Clock
from node.config.config import Config
from node.control import ask
from node.data_folder import LOCK_NAME, STORE_NAME
from node.errors import CoreSilent, StickUnreadable
from node.keystore import Keystore
from node.stick.files import read_file, write_file
from sync.answer import PARTED, Answer, Further, Resume, next_step, open_answer
from sync.certificates import check_chain, gateway_of, read, verifier_of
from sync.checkpoint import Checkpoint
from sync.errors import BadStick, KeyAbsent, LogBroken, SyncError
from sync.keys import Verifier
from sync.log import root_at
from sync.names import Origin
from sync.outbox import Outbox
from sync.outbox_view import OutboxView, StreamView
from sync.receipt import Receipt
from sync.sender_events import OwnLog
from sync.stick import (
    RECEIPTS_BYTES_MAX,
    RECEIPTS_NAME,
    Receipts,
    folder_name,
    read_note,
    read_receipts,
)
from sync.store import UNREADABLE

INBOX_NAME = "carried.json"  # receipts on their way to the core, in the data folder
LAST_NAME = "carried-last.json"  # the receipts with the youngest answers: they say where exports begin
TAG_BYTES = 4  # of the start that opens an epoch; without a core it is nobody's, so random
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One verified receipt."""

    origin: Origin
    size: int
    note: bytes
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """What came home: receipts, streams for which a further epoch was opened, and those for which the core must be started anew to open it."""

    taken: tuple[Taken, ...] = ()
    opened: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


def take_receipts(config: Config, keystore: Keystore, clock: Clock, stick: Path) -> Home:
    """Verify the stick's receipts and have them stored, by the core where it runs. None there: nothing.

    Raises BadStick, StickUnreadable, LogBroken.
    """
    try:
        data = read_file(stick / folder_name(config.node.name) / RECEIPTS_NAME, RECEIPTS_BYTES_MAX)
    except FileNotFoundError:
        return Home()
    except OSError as error:
        raise StickUnreadable(f"{stick}: {error.strerror}") from error
    found, ledger = verify_receipts(config, keystore, clock, data)
    refused, folder = read_receipts(data).refused, config.node.data_dir
    # before the receipts are stored: a crash between the two leaves answers that the next export goes by
    _keep_answers(config, keystore, clock, data)
    with (folder / LOCK_NAME).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # the core runs, and it alone writes: it verifies again
            write_file(folder / INBOX_NAME, [data])
            if ask(folder, "carried") != len(found):
                raise CoreSilent("the core did not take the receipts") from None
            return Home(taken=tuple(found), waiting=tuple(_wanted(config, keystore, clock)), refused=refused)
        with closing(Outbox(folder / STORE_NAME, signer=keystore.signer, random=os.urandom)) as outbox:
            try:
                outbox.verify_heads()  # as at a start, before anything is signed
            except KeyAbsent as error:
                # receipts sign nothing; but no stream may go on under another key than the one that is lacking: the start will say so
                log.warning("epoch.not_opened", code=error.code, detail=str(error))
                store_receipts(outbox, found, ledger)
                return Home(taken=tuple(found), waiting=tuple(_wanted(config, keystore, clock)), refused=refused)
            store_receipts(outbox, found, ledger)
            opened = open_epochs(config, keystore, clock, outbox, tag=os.urandom(TAG_BYTES).hex())
    return Home(taken=tuple(found), opened=tuple(opened), refused=refused)


def take_inbox(config: Config, keystore: Keystore, clock: Clock) -> tuple[list[Taken], str]:
    """The core's side: what `wasl export` left in the data folder, verified. Raises BadStick."""
    try:
        data = read_file(config.node.data_dir / INBOX_NAME, RECEIPTS_BYTES_MAX)
    except OSError as error:
        raise BadStick("there are no receipts to take") from error
    (config.node.data_dir / INBOX_NAME).unlink(missing_ok=True)
    return verify_receipts(config, keystore, clock, data)


def store_receipts(outbox: Outbox, taken: list[Taken], ledger: str) -> int:
    """Store verified receipts, on the writer's side; how many. A node that no gateway ever admitted knows its ledger from now on."""
    if not outbox.ledger():
        with outbox.transaction():
            outbox.set_fact("ledger", ledger.encode())
    for each in taken:
        outbox.keep_receipt(ledger=ledger, origin=each.origin, size=each.size, receipt=each.note, at=each.at)
    return len(taken)


def verify_receipts(config: Config, keystore: Keystore, clock: Clock, data: bytes) -> tuple[list[Taken], str]:
    """The receipts, each proved against our own log, and the ledger that gave them. Raises BadStick, LogBroken."""
    with closing(OutboxView(config.node.data_dir / STORE_NAME, config.node.name)) as view:
        try:
            came = _Came(config, keystore, clock, view, data)
            return list(came.taken()), came.receipts.ledger
        except (IndexError, *UNREADABLE) as error:
            raise LogBroken(f"the records that the receipts speak of cannot be read: {error}") from error


# -- answers -------------------------------------------------------------------------------------------------------------


def last_steps(config: Config, keystore: Keystore, clock: Clock, view: OutboxView) -> dict[str, Resume]:
    """Streams whose next export begins elsewhere than after the receipts, as the gateway last said. A receipt that is younger knows better."""
    return {name: step for name, step in _steps(config, keystore, clock, view).items() if isinstance(step, Resume)}


def open_epochs(config: Config, keystore: Keystore, clock: Clock, outbox: Outbox, *, tag: str) -> list[str]:
    """Open the further epochs that the last answers make necessary, on the writer's side; the streams. What cannot be opened is logged."""
    opened = []
    for name, step in _wanted(config, keystore, clock).items():
        try:
            outbox.open_epoch(name, epoch=step.epoch, tag=tag, place=step.place, own=step.own, theirs=step.theirs)
        except (SyncError, IndexError, *UNREADABLE) as error:
            log.warning("epoch.not_opened", error=type(error).__name__, stream=name, detail=str(error))
            continue
        log.warning("epoch.opened", code=step.code, stream=name, epoch=step.epoch)
        opened.append(name)
    return opened


def _keep_answers(config: Config, keystore: Keystore, clock: Clock, data: bytes) -> None:
    """Let the next export go by the answers of these verified receipts, unless younger ones have come: an old stick may be taken after a newer one."""
    with closing(OutboxView(config.node.data_dir / STORE_NAME, config.node.name)) as view:
        last, came = _last(config, keystore, clock, view), _Came(config, keystore, clock, view, data)
    if last is not None and came.told_at < last.told_at:
        log.info("stick.answers_are_older", told_at=came.told_at, kept=last.told_at)
        return
    write_file(config.node.data_dir / LAST_NAME, [data])


def _wanted(config: Config, keystore: Keystore, clock: Clock) -> dict[str, Further]:
    with closing(OutboxView(config.node.data_dir / STORE_NAME, config.node.name)) as view:
        steps = _steps(config, keystore, clock, view)
    return {name: step for name, step in steps.items() if isinstance(step, Further)}


def _steps(config: Config, keystore: Keystore, clock: Clock, view: OutboxView) -> dict[str, Resume | Further]:
    try:
        came = _last(config, keystore, clock, view)
    except (SyncError, *UNREADABLE) as error:
        # a start comes by here each time: what cannot be read is for `verify_heads` to judge, and no reason to take no messages
        log.warning("stick.answers_not_compared", error=type(error).__name__)
        return {}
    return {} if came is None else dict(came.steps())


def _last(config: Config, keystore: Keystore, clock: Clock, view: OutboxView) -> "_Came | None":
    """What the next export goes by; None where none came, or of another ledger or authority than ours is now."""
    try:
        data = read_file(config.node.data_dir / LAST_NAME, RECEIPTS_BYTES_MAX)
        return _Came(config, keystore, clock, view, data)
    except (OSError, BadStick):
        return None


class _Came:
    """One file of receipts that names our gateway and ledger. Raises BadStick where it does not."""

    def __init__(self, config: Config, keystore: Keystore, clock: Clock, view: OutboxView, data: bytes) -> None:
        self.receipts = receipts = read_receipts(data)
        if receipts.node != config.node.name:
            raise BadStick(f"these receipts are for {receipts.node}, this node is {config.node.name}")
        self._view, self._cosigner = view, _cosigner(config, keystore, clock, receipts)
        known = (view.fact("ledger") or b"").decode()
        # a receipt is proved whatever ledger it is of, but may not be counted for another site
        if known and known != receipts.ledger:
            raise BadStick("these receipts are of another ledger than the one that admitted this node")
        self._streams: dict[str, list[StreamView]] = {}
        for each in view.streams():
            self._streams.setdefault(each.origin.stream, []).append(each)
        self._answers = self._read_answers()
        self._receipts = list(self._read_notes())

    @property
    def told_at(self) -> int:
        """When the gateway gave the youngest of the answers, POSIX seconds; 0 where there are none."""
        return max((answer.time for answer in self._answers.values()), default=0)

    def taken(self) -> Iterator[Taken]:
        """The receipts that are for logs of ours as they are now. Raises BadStick for one that is not, unless the gateway's answer explains it."""
        for receipt, note, own in self._receipts:
            found = receipt.checkpoint
            if own is not None and self._is_ours(found, own):
                yield Taken(origin=own.origin, size=found.size, note=note.encode(), at=receipt.time)
            elif not self._is_explained(found, own):
                raise BadStick(f"a receipt of {found.origin.stream} speaks of other records than ours: {found.origin}")

    def _read_notes(self) -> Iterator[tuple[Receipt, str, StreamView | None]]:
        """Each receipt with the log of ours that it names."""
        for note in self.receipts.notes:
            receipt = read_note(note, self._cosigner)
            origin = receipt.checkpoint.origin
            logs = self._streams.get(origin.stream, [])
            yield receipt, note, next((each for each in logs if each.origin == origin), None)

    def _is_ours(self, found: Checkpoint, own: StreamView) -> bool:
        """As of a receipt over the link: what the gateway confirms must be what we hold, else nothing is trimmed on its word."""
        return 0 < found.size <= own.size and found.root == root_at(self._view.table(own.log), found.size)

    def steps(self) -> Iterator[tuple[str, Resume | Further]]:
        """What the answers ask for, where nothing younger is known."""
        for name, answer in self._answers.items():
            logs = self._streams[name]
            if answer.time < max(each.receipt_at for each in logs):
                continue
            try:
                step = self._step(answer, logs)
            # own leaves cannot be read, in whatever way: that is no sign that the gateway has others
            except (SyncError, IndexError, *UNREADABLE) as error:
                log.warning("stick.answer_not_compared", stream=name, error=type(error).__name__)
                continue
            if step is not None:
                yield name, step

    def _step(self, answer: Answer, logs: list[StreamView]) -> Resume | Further | None:
        rows = {each.origin: each.log for each in logs}
        return next_step(
            answer, [OwnLog(each.origin, each.size, each.receipted, each.start, each.opening) for each in logs],
            lambda own, size: root_at(self._view.table(rows[own.origin]), size), lambda start, size: self._view.run_root(logs[-1].run, start, size),
            unfit=any(own in logs and not self._is_ours(receipt.checkpoint, own) for receipt, _, own in self._receipts if own is not None),
        )  # fmt: skip

    def _is_explained(self, found: Checkpoint, own: StreamView | None) -> bool:
        """Whether the gateway's answer says too that it has other records, or more, than this disk: that is no forgery, and no receipt for us."""
        answer = self._answers.get(found.origin.stream)
        if answer is None:
            return False
        # its newest log is compared with ours before anything is done, as a session's word would be
        if answer.newest is not None and answer.newest.origin == found.origin:
            return own is None or (answer.newest.size, answer.newest.root) == (found.size, found.root) or answer.refused in PARTED  # fmt: skip
        return own is not None and (answer.refused in PARTED or found.size > own.size)

    def _read_answers(self) -> dict[str, Answer]:
        answers: dict[str, Answer] = {}
        for text in self.receipts.answers:
            try:
                answer = open_answer(text.encode(), self._cosigner)
            except (SyncError, ValueError) as error:
                raise BadStick(f"an answer does not verify: {error}") from error
            if (answer.node, answer.ledger) != (self.receipts.node, self.receipts.ledger):
                raise BadStick("an answer is for another node, or of another ledger")
            if answer.stream in self._streams:
                answers[answer.stream] = answer
        return answers


def _cosigner(config: Config, keystore: Keystore, clock: Clock, receipts: Receipts) -> Verifier:
    if config.gateway is None:
        raise BadStick("no gateway is configured: whose receipts would be good is not known")
    try:
        certificate = read(receipts.cosign_certificate.encode())
        check_chain(certificate, (), keystore.anchor, at=clock.now_us() // 1_000_000)
        named = gateway_of(certificate, "cosign")
        verifier = verifier_of(certificate, config.gateway.name)
    except SyncError as error:
        raise BadStick(f"the gateway's certificate on the stick is not good: {error}") from error
    if named != config.gateway.name:
        raise BadStick(f"the receipts are of {named}, the configured gateway is {config.gateway.name}")
    return verifier
