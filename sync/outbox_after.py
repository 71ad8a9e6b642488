"""What a record came after that left its feed's main stream: the last position of that stream before it (docs/wire.md, header key 14)."""

from collections.abc import Mapping, Sequence

from sync.outbox_heads import Head
from sync.record import Draft


def with_after(drafts: Sequence[Draft], fresh: Mapping[str, list[int]], heads: Mapping[str, Head]) -> Sequence[Draft]:
    """Give the drafts, those that follow another stream with its last position before them. `fresh`: places of each stream's new drafts."""
    if not any(draft.follows for draft in drafts):  # nearly always
        return drafts
    placed = list(drafts)
    for place, draft in enumerate(drafts):
        head = heads.get(draft.follows)
        if head is None or draft.follows == draft.stream:
            continue
        last = head.frontier.size + sum(each < place for each in fresh.get(draft.follows, ())) - 1
        if last >= 0:
            placed[place] = draft._replace(after=(draft.follows, head.origin.epoch, last))
    return placed
