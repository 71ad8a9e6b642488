"""Faults to plant: each one small change of one production function. What changes nothing that can be observed is not here."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """In the function `at` (module:name), `old` becomes `new`. `thief`: looked for in worlds with a thief all along."""

    name: str
    at: str
    old: str
    new: str
    thief: bool = False


MUTANTS = (
    # the sender
    Mutant("accept a receipt of another root", "sync.sender:Sender._receipted", "or receipt.checkpoint != Checkpoint(", "or False and receipt.checkpoint != Checkpoint("),
    Mutant("accept an older receipt", "sync.sender:Sender._receipted", "if not flow.first < size <=", "if not 0 < size <="),
    Mutant("accept a receipt of a stranger's key", "sync.sender:Sender._receipted", "receipt = open_receipt(note, self._cosigner)",
           "from sync.checkpoint import parse_checkpoint, parse_note\nfrom sync.receipt import Receipt\nreceipt = Receipt(parse_checkpoint(parse_note(note).text), 0)"),
    Mutant("begin one too late", "sync.sender:Sender._compare", "self._go_to(flow, at, theirs=theirs.size)", "self._go_to(flow, at, theirs=theirs.size + 1)"),
    Mutant("wait for more for ever", "sync.sender:Sender._call", "next_at=now + self._linger_s,", "next_at=now + 1e9,"),
    Mutant("lose the grown event", "sync.sender:Sender._grow", "replace(flow.logs[-1], size=size)", "flow.logs[-1]"),
    Mutant("fenced, and yet go on", "sync.sender:Sender._refused", "self.phase = Phase.FENCED", "self.phase = Phase.CLOSED"),
    Mutant("busy for ever", "sync.sender:Sender._refused_call", "ready_at = now + pause_s(event.wait_s)", "ready_at = now + 1e9"),
    Mutant("never try again", "sync.sender:Sender._fail", "self._retry_at = now + self._backoff.failed()", "self._retry_at = now + 1e9"),
    Mutant("still waiting after a failure", "sync.sender:Sender._fail", "self.phase, self._busy = Phase.CLOSED, False", "self.phase = Phase.CLOSED"),
    Mutant("forget that a receipt is missing", "sync.flow:Flow.waits", "or self.receipted < self.theirs <= self.size", ""),
    Mutant("ask for a receipt with a record that is not there", "sync.flow:Flow.call", "Put(self.origin, self.size - 1, 1,", "Put(self.origin, self.size, 1,"),
    Mutant("skip the root comparison of a session", "sync.sender:Sender._compare", "elif root != theirs.root:", "elif False:"),
    Mutant("overlook that the gateway has more", "sync.sender:Sender._compare", "if is_newest:", "if False:"),
    Mutant("part without an alarm", "sync.sender:Sender._search", "return [Alarm(code, name), *self._search_on(flow, None)]", "return self._search_on(flow, None)"),
    Mutant("forget to say that an epoch is open", "sync.sender:Sender._hear", "posting=True)", "posting=False)"),
    Mutant("use an epoch's number again", "sync.flow:Flow.next_epoch", "return newest + 1 if", "return newest if"),
    Mutant("carry one record too many", "sync.agreement:find_common", "place = window.start + (yield from _held(root_of, window))", "place = max(window.start, window.start - 1 + (yield from _held(root_of, window)))"),
    Mutant("carry one record too few", "sync.agreement:find_common", "place = window.start + (yield from _held(root_of, window))", "place = min(window.end, window.start + 1 + (yield from _held(root_of, window)))"),
    # the lanes
    Mutant("serve every lane an old session", "node.uplink.link_turns:SessionDesk.ask", "and self._began > since", ""),
    Mutant("a call that never ends its turn", "node.uplink.link_turns:LinkTurns.turn", "self._turns.end(lane, self._now(), answered=answered, round_trip_s=round_trip_s() if answered else 0.0)", "pass"),
    Mutant("send under no fence", "node.uplink.uplink:Uplink._keep_fence", "self._fence, self._ledger = kept.fence, kept.ledger", "self._ledger = kept.ledger"),
    Mutant("keep the cursor of another ledger", "node.uplink.uplink:Uplink._keep_receipt", "outbox.keep_receipt(ledger=ledger,", 'outbox.keep_receipt(ledger="other",'),
    Mutant("sign with a frontier of before", "node.uplink.own_logs:OwnLogs.frontier", "kept is not None and kept.size == size", "kept is not None"),
    Mutant("another stream's growth is lost", "node.uplink.uplink:Uplink.grown", "self._sizes[origin] = size", "self._sizes = {origin: size}"),
    # the writer
    Mutant("acknowledge before commit", "node.writer:Writer._append", "return outbox.append([draft for draft, _ in group]), group",
           "self._deliver([(done, Stored(d.stream, outbox.heads[d.stream].origin.epoch, outbox.heads[d.stream].frontier.size)) for d, done in group])\nreturn outbox.append([draft for draft, _ in group]), group"),
    Mutant("acknowledge what was refused", "node.writer:Writer._refuse", "(done, error) for _, done in group", "(done, Stored(draft.stream, 1, 0)) for draft, done in group"),
    Mutant("answers to the wrong senders", "node.writer:Writer._commit", "zip(group, stored, strict=True)", "zip(group, reversed(stored), strict=True)"),
    Mutant("nobody is told of growth", "node.writer:Writer._commit", "self._grown(head.origin, head.frontier.size)", "pass"),
    # the outbox
    Mutant("forget repeats at a restart", "sync.outbox:Outbox.__init__", "self._remember(recent_max)", "pass"),
    Mutant("overlook repeats", "sync.outbox:Outbox._find_repeats", "if len(set(keys)) == len(keys) and not self._recent.holds(keys):", "if True:"),
    Mutant("take a control id for a message", "sync.outbox_arrivals:place_of_same", "or not same or", "or"),
    Mutant("use a row again", "sync.outbox:Outbox.__init__", "self._next_row = 1 + self._largest_row()", "self._next_row = max(1, self._largest_row())"),
    Mutant("memory before disk", "sync.outbox:Outbox.append", "self._insert(groups, [", "old = self.heads\nself.heads = {**old, **{group.head.origin.stream: group.head for group in groups}}\nself._insert(groups, ["),
    Mutant("take a full disk for a commit", "sync.transaction:Transactions.alone", 'raise NoRoom("the outbox is full") from error', "return"),
    Mutant("no bound on the queue", "sync.transaction:Transactions.__init__", "if quota_bytes else 0", "if False else 0"),
    Mutant("trim before receipt", "sync.outbox:Outbox.trim", "end = min(size, head", "end = min(head"),
    Mutant("trim one too many", "sync.outbox:Outbox.trim", "end = min(size, head", "end = min(size + 1, head"),
    Mutant("a start that is not stored", "sync.outbox:Outbox.start_boot", "with self.transaction():", "if False:"),
    Mutant("starts that are not told", "sync.outbox_view:OutboxView.boots", 'return [bytes_of("a start", row[0]) for row in', "return [] or [row[0][:0] for row in () and"),
    Mutant("carry an epoch from one row further", "sync.outbox_epochs:open_epoch", "carried = _carry(connection, heads, opening, place, signer)", "carried = _carry(connection, heads, replace(opening, carried=max(0, opening.carried - 1)), place, signer)"),
    # the receiver
    Mutant("skip the fence check", "sync.receiver:Receiver._refuse_early", "event.known is None or (not event.carried and (not event.fence or event.fence != event.known.fence))", "event.known is None"),
    Mutant("forget to hold", "sync.receiver:Receiver._session", "held = known.held or not continues", "held = known.held"),
    Mutant("hold only once", "sync.receiver:Receiver._session", "held = known.held or not continues", "held = not continues"),
    Mutant("admit a copy without a word", "sync.receiver:Receiver._session", 'suspect: list[Effect] = [] if continues else [Raise("GWY-10")]', "suspect: list[Effect] = []"),
    Mutant("admit an older start again", "sync.receiver:Receiver._session", "if boot in known.earlier:", "if False:"),
    Mutant("a new fence each time", "sync.receiver:Receiver._session", "if boot == known.boot:", "if False:"),
    Mutant("take every start for a copy", "sync.receiver:Receiver._session", "known.fence == event.request.fence or known.boot in event.request.boots", "False"),
    Mutant("answer rewind with a fork", "sync.receiver:Receiver._put", "or event.first > held.frontier.size", ""),
    Mutant("append what is there already", "sync.receiver:Receiver._put", "fresh = tuple(batch.records[both:])", "fresh = tuple(batch.records)"),
    # the ledger
    Mutant("receipt before commit", "gateway.ledger_sqlite:SqliteLedger._commit", 'connection.execute("COMMIT")', 'self._tell(group, 0.0)\nconnection.execute("COMMIT")\nreturn None'),
    Mutant("the fence is not in the heads", "gateway.ledger_rows:Rows.admit", 'self._connection.execute("UPDATE log SET fence = ? WHERE node = ?", (effect.fence, node))', "pass"),
    Mutant("the records of a held node are free", "gateway.ledger_rows:Rows.append", "if held:", "if False:"),
    Mutant("one record of a held node is free", "gateway.ledger_rows:Rows._hold", "(log, first, end))", "(log, first + 1, end))"),
    Mutant("the last record of a batch is lost", "gateway.ledger_rows:Rows.append", "append(largest + 1, before, effect.records)", "append(largest + 1, before, effect.records[:-1])"),
    Mutant("a row of the ledger is used again", "gateway.ledger_rows:Rows.append", "append(largest + 1, before", "append(max(1, largest), before"),
    Mutant("a further epoch is not held", "gateway.ledger_rows:Rows.open_log", "if effect.opening:", "if False:"),
    Mutant("judge by the oldest epoch", "gateway.ledger_rows:Rows.head", "ORDER BY epoch DESC", "ORDER BY epoch"),
    Mutant("a head of another size", "gateway.ledger_rows:Rows.append", "(after.size, after.peaks, octets,", "(after.size, before.peaks, octets,"),
    # paths, uploads, the high-water mark
    Mutant("never leave a way that is dead", "sync.paths:Paths.failed", "if self._failures < FAILURES_MAX or len(self._paths) == 1:", "if True:"),
    Mutant("leave a way at the first failure", "sync.paths:Paths.failed", "self._failures < FAILURES_MAX", "self._failures < 1"),
    Mutant("an answer does not end a row of failures", "sync.paths:Paths.answered", "self._failures = 0", "pass"),
    Mutant("take a way back that was just given up", "sync.paths:Paths.failed", "self._held_until[name] = now + HOLD_DOWN_S", "self._held_until[name] = now"),
    Mutant("one good probe is enough", "sync.paths:Paths.probed", "self._probes[name] < PROBES_GOOD_MIN", "self._probes[name] < 1"),
    Mutant("a metered way is for all", "sync.paths:Paths.allows", "return lane == CRITICAL or not self.current.metered", "return True"),
    Mutant("a large body goes in one piece", "node.uplink.body_uploads:BodyUploads.is_wanted", "wire > self._lane.quantum", "False"),
    Mutant("a body begins anew whatever is there", "node.uplink.body_uploads:BodyUploads.send_part", "going.held = self._ask(going.upload.id)", "going.held = self._ask(going.upload.id) and 0"),
    Mutant("a part goes where it does not belong", "gateway.uploads:Uploads.write", "if offset != held:", "if False:"),
    Mutant("an older disk goes on as if it were not", "sync.highwater:Mark.is_ahead_of", "return self.tag != origin.tag or self.accepted > size", "return False"),
    Mutant("an older disk is not told of", "node.restored:part_from", 'alarms.raised("NOD-31", name)', "pass"),
    Mutant("what an older disk has lost is named nowhere", "node.restored:part_from", "if first < end:", "if False:"),
    Mutant("what an older disk has lost is named at each start", "node.restored:name_lost", '._replace(fact=(fact, b""))', ""),
    Mutant("ask beyond the end of an epoch", "sync.flow:Flow.call", "min(self.records_max, self.size - self.theirs)", "self.records_max"),
    # a change of the log key
    Mutant("take a change to a key of which no certificate is good", "sync.log_keys:_follower", 'raise WrongKey("the certificate of a key change is not good")',
           'import sync.certificates as certificates\nreturn verifier_of(read(change.certificate), certificates.node_of(read(change.certificate), "log"))'),
    Mutant("take the old key after its change", "sync.log_keys:_in_force_at", "return keys.in_force or _find(note.signatures[0], keys.certified)",
           "return _find(note.signatures[0], (*keys.certified, *(change.before for change in keys.changes)))", thief=True),
    Mutant("take a change without the new key's word", "sync.log_keys:check_batch", "_check_lines(note, chain.signers)", "_check_lines(note, chain.signers[: len(note.signatures)])"),
    Mutant("take a statement under a key that another has followed", "sync.log_keys:check_opening", "_check_fresh(key, keys.retired)", "pass"),
    Mutant("no receipt of what is common", "sync.receiver:_of_common", "return cosigned(", 'return b"" and cosigned('),
    Mutant("a further epoch without the old key's word is no alarm", "sync.receiver:_epoch", '*([] if opener.continues else [Raise("GWY-23", opened.stream)])', "*[]"),
    Mutant("the centre forgets where the key changed", "gateway.ledger_keys:KeyRows.sign_from", "for change in changes:", "for change in ():"),
    Mutant("forget at a restart where the key changed", "sync.outbox_keys:read_changes", "return found", "return {}"),
    Mutant("a new key without a record of it", "sync.outbox_keys:to_hand_over", "if head.frontier.size or head.opening:", "if False:"),
    Mutant("the change comes after a head under the new key", "sync.outbox:Outbox.change_key", "changing, empty = to_hand_over(self._ring, self.heads)",
           "self._handing_over = False\nfor head, old in to_hand_over(self._ring, self.heads)[0]:\n    self.append([draft(head.origin, old, now)])\nchanging, empty = to_hand_over(self._ring, self.heads)"),
    Mutant("a change counts from the record after it", "sync.outbox:Outbox.change_key", "group.head.group_first, old, now)", "group.head.group_first + 1, old, now)"),
    Mutant("each stream changes its key by itself", "sync.outbox:Outbox.change_key", "if groups or empty:", "for groups, empty in [*(([each], []) for each in groups), ([], empty)]:"),
    Mutant("the certificates of earlier keys are not told", "node.uplink.conversation:Conversation.session", "KeyRing.of(self._keystore.signer).earlier_certificates", "()"),
    Mutant("a refused key halts its stream for good", "sync.sender:Sender._lacks_key", 'return [Alarm("SYN-32" if code == "bad-key" else "SYN-15", flow.stream)]', 'return self._halt(flow, "SYN-31")'),
    Mutant("repeat a statement under a key of before for ever", "sync.sender:Sender._lacks_key", "flow.logs[flow.at].outdated", "False"),
    Mutant("an earlier key may go too early", "node.key_status:_needed", "{*log.keys.for_batch(log.receipted, log.size), log.keys.last}", "{log.keys.last}"),
    Mutant("overlook that the gateway's log is under another's key", "sync.sender:Sender._is_anothers", "bool(theirs.key) and", "False and", thief=True),
    Mutant("do not say under which key a log is", "gateway.ledger_rows:_held_log", "key=key)", 'key=b"")', thief=True),
    Mutant("a ledger that forgot takes no statement far ahead", "gateway.ledger_keys:KeyRows.has_opened_enough", "if spent <= KEY_EPOCHS_MAX:",
           "if rows and ends[-1] - ends[-2] > EPOCHS_AHEAD_MAX:\n    return True\nif spent <= KEY_EPOCHS_MAX:", thief=True),
    Mutant("compare with the key at the log's end", "node.uplink.own_logs:OwnLogs.key_at", "self.keys(origin).at(size)", "self.keys(origin).last", thief=True),
)  # fmt: skip
