"""The process that verifies signatures: `python -m node.signatures.worker FOLDER`, documents in, findings out. The only one that holds lxml and signxml.

Its parent kills it where it hangs; it ends when its parent does. FOLDER: certificates (*.pem) of the authorities whose signers are known,
and their lists of revoked ones (*.crl).
"""

import base64
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lxml import etree  # type: ignore[import-untyped]  # it brings no types

from hl7.mtom import XOP, divide, medium
from hl7.soap_errors import SoapError
from node.errors import AuthoritiesBad
from node.signatures.chain import Authorities, Chain, read_authorities, state_of
from node.signatures.fhir_signatures import check_json
from node.signatures.rows import Row
from node.signatures.xml_signatures import check_xml
from node.worker_process import confine, serve

INCLUDE = "{http://www.w3.org/2004/08/xop/include}Include"
UNREADABLE = [["invalid", "", "", "the document cannot be read", ""]]
HEAD_BYTES_MAX = 8192  # of the line before a document: when it came, and its Content-Type


class Folder:
    """The site's authorities, as their folder says them now: lists of revoked certificates come anew every few days. `fault`: what cannot be read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state: tuple[tuple[str, int, int], ...] | None = None
        self._authorities: Authorities | None = None
        self.fault = ""

    def authorities(self) -> Authorities | None:
        """Those of the folder; the last good ones while a file of it cannot be read, as while it is copied; None where there were none yet."""
        try:
            state = state_of(self._folder)
            if state != self._state:
                self._authorities, self._state = read_authorities(self._folder), state
            self.fault = ""
        except AuthoritiesBad as error:
            self.fault = str(error)
        except OSError as error:
            self.fault = f"{self._folder}: {type(error).__name__}"
        return self._authorities


def answer(given: bytes, folder: Folder) -> list[Row]:
    """A row of what is wrong with the folder, empty where nothing is, and what is found in a document."""
    authorities = folder.authorities()
    return [[folder.fault], *check(given, authorities)]


def check(given: bytes, authorities: Authorities | None) -> list[Row]:
    """What is found in a document; `given` is a line of JSON (time in µs or null, Content-Type) and the document. Never raises but MemoryError."""
    head, _, body = given.partition(b"\n")
    if len(head) > HEAD_BYTES_MAX:
        return UNREADABLE
    time_us, content_type = json.loads(head)
    time = None if time_us is None else datetime.fromtimestamp(time_us / 1_000_000, UTC)
    try:
        return judged(body, content_type, authorities, time)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  # a document that ended this process would take the verdicts of those behind it along
        return [["invalid", "", "", f"it cannot be judged: {type(error).__name__}", ""]]


def judged(body: bytes, content_type: str, authorities: Authorities | None, time: datetime | None) -> list[Row]:
    """The same of a document that came at a time, None where no clock says it. Raises what nobody has thought of yet: tests/fuzz_signatures.py."""
    chain = Chain(authorities, time)
    try:
        if body.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{":
            return check_json(body, chain)
        root, is_alone = _document(body, content_type)
    except (etree.XMLSyntaxError, SoapError, ValueError, RecursionError):
        return UNREADABLE
    return check_xml(root, chain, is_alone=is_alone)


def _document(body: bytes, content_type: str) -> tuple[Any, bool]:
    """The document, or a package's envelope with what XOP had taken out put back: over that its signatures go (XOP 1.0, 4.1); whether that is all."""
    if not content_type.startswith("multipart/"):
        return _parsed(body), True
    package = divide(body, medium(content_type))
    root = _parsed(body[package.root.start : package.root.end])
    left = {part.start for part in package.others}
    for include in list(root.iter(INCLUDE)) if package.root.medium.name == XOP else ():
        part = package.part(include.get("href", ""))
        holder = include.getparent()
        if holder is None or len(holder) != 1 or (holder.text or "").strip() or (include.tail or "").strip():
            raise ValueError("xop:Include does not stand alone")
        holder.remove(include)
        holder.text = base64.b64encode(body[part.start : part.end]).decode("ascii")
        left.discard(part.start)
    return root, not left


def _parsed(body: bytes) -> Any:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    root = etree.fromstring(body, parser=parser)
    if root.getroottree().docinfo.doctype:
        raise ValueError("a DOCTYPE is not allowed")
    return root


def main() -> None:
    """Bound what this process may do, and serve."""
    folder = Folder(Path(sys.argv[1]))
    confine()
    exhausted = [["invalid", "", "", "it takes too much memory", ""]]
    serve(sys.stdin.buffer, sys.stdout.buffer, lambda given: answer(given, folder), exhausted)


if __name__ == "__main__":
    main()
