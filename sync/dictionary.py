"""Dictionaries for batches (docs/wire.md, sections 6.1 and 6.3): named by a hash, so that both sides mean the same bytes or none.

A dictionary is data that both sides hold before: made from invented messages alone, or it would carry patients' words to everybody. A context is
made of the records of the same log that were sent before, so it is nobody's but these two's.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from backports import zstd

from sync.errors import BadDictionary, UnknownDictionary
from sync.log import HASH_BYTES

DICTIONARY_BYTES_MAX = 256 * 1024  # beyond 64 KiB nothing was gained; the rest is room for later ones
DICTIONARIES_MAX = 256  # kept for ever: 8 families, 32 versions; 64 MB at most, and they are loaded at the start
INDEX_NAME = "index.json"
SUFFIX = ".zdict"
# A skippable zstd frame of 32 bytes, as RFC 9842 section 5 begins its streams: a reader without dictionaries meets a frame it may name
NAME_MARK: Final = b"\x5e\x2a\x4d\x18\x20\x00\x00\x00"
NAMED_BYTES = len(NAME_MARK) + HASH_BYTES
# The same of another kind and 10 bytes: how many records, and the first bytes of their context's SHA-256
CONTEXT_MARK: Final = b"\x5f\x2a\x4d\x18\x0a\x00\x00\x00"
COUNT_BYTES, DIGEST_BYTES = 2, 8  # 8: the two sides differ by accident only, and the root would tell even then
CONTEXT_NAMED_BYTES = len(CONTEXT_MARK) + COUNT_BYTES + DIGEST_BYTES
# a shorter one is no better than a family's dictionary (measured: 4 messages for a batch of 1, 16 for one of 32)
CONTEXT_SHARE_MIN, CONTEXT_PAYS_BYTES = 4, 16 * 1024
RAW_BYTES_MIN = 256  # below, the 40 bytes of the name cost more than a dictionary saves
RAW_BYTES_MAX = 1024 * 1024  # above, a batch is its own dictionary: measured gain below 0.5 %
_FAMILY = re.compile(r"[a-z]{1,16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dictionary:
    """One dictionary. `prefixes`: of message types that it suits, `content_type` where it is for one; both only guide the choice."""

    family: str
    version: int
    prefixes: tuple[str, ...]
    content_type: str
    sha256: bytes
    zstd: zstd.ZstdDict

    def suits(self, content_type: str, message_type: str) -> bool:
        """Whether a record of these types is of this family."""
        return self.content_type == content_type and message_type.startswith(self.prefixes or ("",))


class Shelf:
    """The dictionaries that one side holds. Those of a later version of a family come before the earlier ones in the choice."""

    __slots__ = ("_by_name", "_newest")

    def __init__(self, dictionaries: Iterable[Dictionary] = ()) -> None:
        self._by_name = {each.sha256: each for each in dictionaries}
        newest: dict[str, Dictionary] = {}
        for each in sorted(self._by_name.values(), key=lambda found: (found.family, found.version)):
            if each.version:
                newest[each.family] = each
        self._newest = tuple(newest.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: bytes) -> Dictionary:
        """The dictionary of this SHA-256. Raises UnknownDictionary."""
        found = self._by_name.get(name)
        if found is None:
            raise UnknownDictionary(f"dictionary {name.hex()} is not held here")
        return found

    def choose(self, kinds: Sequence[tuple[str, str, int]], raw_bytes: int) -> Dictionary | None:
        """The newest of the family that most body bytes belong to, of (content type, message type, bytes) of a batch's records."""
        if not RAW_BYTES_MIN <= raw_bytes <= RAW_BYTES_MAX:
            return None
        weights = [sum(size for content, kind, size in kinds if each.suits(content, kind)) for each in self._newest]
        most = max(weights, default=0)
        return self._newest[weights.index(most)] if most else None


EMPTY: Final = Shelf()


@dataclass(frozen=True, slots=True)
class Context:
    """The last `count` records before a batch, as bytes that both sides can make."""

    count: int
    content: bytes

    @property
    def name(self) -> bytes:
        """What stands before a frame that was compressed with it."""
        return CONTEXT_MARK + self.count.to_bytes(COUNT_BYTES, "big") + sha256(self.content).digest()[:DIGEST_BYTES]

    def pays(self, raw_bytes: int, dictionary: Dictionary | None) -> bool:
        """Whether a batch of so many bytes is shorter with it than with this dictionary, or none."""
        if raw_bytes > RAW_BYTES_MAX:
            return False
        return dictionary is None or len(self.content) >= min(CONTEXT_SHARE_MIN * raw_bytes, CONTEXT_PAYS_BYTES)


Recall = Callable[
    [int], bytes
]  # the context of so many records before the batch that is read. Raises UnknownDictionary


def make(content: bytes, *, family: str = "", version: int = 0, prefixes: tuple[str, ...] = (), content_type: str = "") -> Dictionary:  # fmt: skip
    """A dictionary of these bytes; version 0 is only read with, never written. Raises BadDictionary."""
    if not 0 < len(content) <= DICTIONARY_BYTES_MAX:
        raise BadDictionary(f"a dictionary has 1 to {DICTIONARY_BYTES_MAX} bytes")
    try:
        parsed = zstd.ZstdDict(content)
    except ValueError as error:  # also zstd's own
        raise BadDictionary("not in zstd's dictionary format") from error
    return Dictionary(
        family=family, version=version, prefixes=prefixes, content_type=content_type, sha256=sha256(content).digest(), zstd=parsed
    )  # fmt: skip


def read_index(read: Callable[[str], bytes]) -> list[Dictionary]:
    """The dictionaries of a folder that `read` gives files of: its index says what each is for. Raises BadDictionary."""
    try:
        rows = json.loads(read(INDEX_NAME))
        found = [_read_row(row, read) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise BadDictionary(f"{INDEX_NAME} does not say what it should") from error
    if len({each.sha256 for each in found}) != len(found):
        raise BadDictionary("two dictionaries are the same")
    return found


def _read_row(row: dict[str, object], read: Callable[[str], bytes]) -> Dictionary:
    family, version, content_type, prefixes = (row[key] for key in ("family", "version", "content_type", "prefixes"))
    if not (isinstance(family, str) and _FAMILY.fullmatch(family) and isinstance(content_type, str)):
        raise BadDictionary("a family is 1 to 16 small letters, and has a content type")
    if type(version) is not int or version < 1 or not isinstance(prefixes, list):
        raise BadDictionary("versions count from 1, and prefixes are a list")
    made = make(
        read(f"{family}-{version}{SUFFIX}"), family=family, version=version, prefixes=tuple(map(str, prefixes)), content_type=content_type
    )  # fmt: skip
    if made.sha256.hex() != row["sha256"]:
        raise BadDictionary(f"{family}-{version} is not what the index says")
    return made


def compress(raw: bytes, level: int, dictionary: Dictionary | None, *, apart: int = 0) -> bytes:
    """One zstd frame, after the name of its dictionary where it has one. The last `apart` bytes, random ones, get blocks of their own."""
    if dictionary is None:
        return _frame(raw, level, None, apart)
    return NAME_MARK + dictionary.sha256 + _frame(raw, level, dictionary.zstd, apart)


def compress_after(raw: bytes, level: int, context: Context, *, apart: int = 0) -> bytes:
    """The same after the name of a context, whose text the frame may refer to."""
    return context.name + _frame(raw, level, zstd.ZstdDict(context.content, is_raw=True).as_prefix, apart)


def _frame(raw: bytes, level: int, prior: Any, apart: int) -> bytes:
    found = zstd.ZstdCompressor(level, zstd_dict=prior)
    found.set_pledged_input_size(len(raw))  # level and window for just this size
    end = len(raw) - apart
    return found.compress(raw[:end], found.FLUSH_BLOCK) + found.compress(raw[end:], found.FLUSH_FRAME)


def open_name(data: bytes, shelf: Shelf, recall: Recall | None) -> tuple[Any, bytes]:
    """What a batch's frame was compressed with (None: nothing), for the decompressor, and the frame. Raises UnknownDictionary."""
    if not data.startswith(CONTEXT_MARK) or len(data) <= CONTEXT_NAMED_BYTES:
        name, frame = split_name(data)
        return (shelf.get(name).zstd if name else None), frame
    at = len(CONTEXT_MARK)
    count = int.from_bytes(data[at : at + COUNT_BYTES], "big")
    if recall is None:
        raise UnknownDictionary("no records are at hand here to read a batch with")
    found = Context(count, recall(count))
    if found.name != data[:CONTEXT_NAMED_BYTES]:
        raise UnknownDictionary(f"the last {count} records here are not those of the node")
    return zstd.ZstdDict(found.content, is_raw=True).as_prefix, data[CONTEXT_NAMED_BYTES:]


def split_name(data: bytes) -> tuple[bytes, bytes]:
    """The name of the dictionary (empty: none) and the frame. A name that is cut off is left to the decompressor."""
    if data.startswith(NAME_MARK) and len(data) > NAMED_BYTES:
        return data[len(NAME_MARK) : NAMED_BYTES], data[NAMED_BYTES:]
    return b"", data
