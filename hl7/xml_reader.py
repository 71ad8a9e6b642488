"""XML as a stranger sends it, looked through piece by piece and in bounds: no DOCTYPE, so no entity of its own and nothing external."""

from typing import Final, Protocol
from xml.parsers import expat

DEPTH_MAX: Final = 256  # CDA's tables in tables reach 40
ELEMENTS_MAX: Final = 200_000  # half a second of one thread; a year's summary of a patient has 30,000
TEXT_CHARACTERS_MAX: Final = 4096  # of a text that is read: addresses and ids, never a document
PIECE_BYTES: Final = 64 * 1024  # expat holds Python's lock over a piece: 0.2 ms


class XmlTrouble(Exception):  # as all errors here: named for what is wrong
    """Such XML is not read. Its text says why, and holds nothing of the message but a place."""


class Stop(Exception):
    """Raised by a follower that has seen enough."""


class Follower(Protocol):
    """Follows the elements, whose names are "namespace local"."""

    def start(self, path: list[str], attributes: dict[str, str]) -> bool:
        """An element begins: the names down to it. True: its text is wanted."""

    def text(self, path: list[str], text: str) -> None:
        """The wanted text of the element that ends here."""


def read(body: bytes, follower: Follower, *, encoding: str | None = None, octets_max: int = 0) -> None:
    """Follow a document from its beginning, at most `octets_max` of it (0: to its end). Raises XmlTrouble."""
    walk = _Walk(follower, encoding)
    whole = not octets_max or len(body) <= octets_max
    end = len(body) if whole else octets_max
    try:
        for at in range(0, end, PIECE_BYTES):
            walk.parser.Parse(body[at : min(at + PIECE_BYTES, end)], False)
        if whole:
            walk.parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise XmlTrouble(f"not XML at line {error.lineno} column {error.offset + 1}") from None
    except (LookupError, ValueError):  # an encoding that nobody knows, or that is none of one byte
        raise XmlTrouble("its encoding is not known") from None
    except Stop:
        return


class _Walk:
    """expat's handlers, and the way down to where they are."""

    def __init__(self, follower: Follower, encoding: str | None) -> None:
        self.parser = parser = expat.ParserCreate(encoding, " ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        self._follower = follower
        self._path: list[str] = []
        self._count = 0
        self._wanted = 0  # the depth of the element whose text is wanted
        self._text: list[str] = []
        self._characters = 0

    @staticmethod
    def _refuse_doctype(*_declaration: object) -> None:
        # entities that grow, and files that are not the sender's to read
        raise XmlTrouble("a DOCTYPE is not allowed")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        path = self._path
        path.append(name)
        self._count += 1
        if len(path) > DEPTH_MAX:
            raise XmlTrouble(f"deeper than {DEPTH_MAX} elements")
        if self._count > ELEMENTS_MAX:
            raise XmlTrouble(f"more than {ELEMENTS_MAX} elements")
        if self._follower.start(path, attributes):
            self._wanted, self._characters = len(path), 0
            self._text.clear()
            self.parser.CharacterDataHandler = self._take

    def _end(self, _name: str) -> None:
        if self._wanted == len(self._path):
            self._wanted = 0
            self.parser.CharacterDataHandler = None
            self._follower.text(self._path, "".join(self._text))
        self._path.pop()

    def _take(self, text: str) -> None:
        if len(self._path) != self._wanted:
            return
        self._characters += len(text)
        if self._characters > TEXT_CHARACTERS_MAX:
            raise XmlTrouble(f"a text of more than {TEXT_CHARACTERS_MAX} characters where an id or address belongs")
        self._text.append(text)
